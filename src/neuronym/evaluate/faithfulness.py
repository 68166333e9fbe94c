"""Faithfulness: do the winners that an explanation lists first carry the decision?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import softmax
from torch import Tensor, nn

from neuronym.devices import device_of
from neuronym.errors import InputError
from neuronym.evaluate.curves import ORDERS, Paths, Plan, area, checked_order, plan
from neuronym.evaluate.faithfulness_result import Faithfulness, SiteFaithfulness
from neuronym.evaluate.masking import Intact, MaskedRuns, intact_pass, place_of
from neuronym.models import LoadedModel
from neuronym.probes import Batch, ProbeSet, batches
from neuronym.record import Site
from neuronym.results import SiteInfo

__all__ = ["FaithfulnessOptions", "faithfulness"]

INPUT = "input"
ATTRIBUTED = 32  # images whose contributions are computed at once
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class FaithfulnessOptions:
    """How faithfulness is measured.

    Attributes:
        order: ``"signed"`` removes the winner with the largest contribution to the predicted
            logit first and the most negative last; ``"magnitude"`` goes by its size,
            ``"activation"`` by the activation summed over positions, as explanations do that know
            no contributions.
        steps: Points of a curve after the first, at least 2.
        random_orders: Shuffles of the same winners per image, at least 1.
        fractions: Shares of the winners that are kept alone, above 0 and below 1.
        batch_size: Runs per forward pass.
        workers: Threads that decode; ``None`` takes one per processor, at most 4.
        draws: Of the bootstrap.
        seed: Of the shuffles and the bootstrap.
        progress: Called with ``(done, total, note)``.
    """

    order: str = "signed"
    steps: int = 20
    random_orders: int = 5
    fractions: tuple[float, ...] = (0.01, 0.02, 0.05, 0.10, 0.20)
    batch_size: int = 128
    workers: int | None = None
    draws: int = 2000
    seed: int = 0
    progress: Callable[[int, int, str], None] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        checked_order(self.order)
        least = {"steps": 2, "random_orders": 1, "batch_size": 1, "draws": 100, "seed": 0}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise InputError(f"{name} must be at least {low}, not {getattr(self, name)}")
        if any(not 0 < fraction < 1 for fraction in self.fractions):
            raise InputError(f"fractions must lie between 0 and 1, not {self.fractions}")

    def to_dict(self) -> dict[str, Any]:
        """Return what determines the result, as JSON types."""
        return {
            "order": self.order,
            "steps": self.steps,
            "random_orders": self.random_orders,
            "fractions": list(self.fractions),
            "draws": self.draws,
            "seed": self.seed,
        }


def faithfulness(
    model: LoadedModel,
    probes: ProbeSet,
    sites: Sequence[Site | SiteInfo],
    *,
    options: FaithfulnessOptions | None = None,
) -> Faithfulness:
    """Measure how faithful a site's contributions are, by removing and adding winners.

    For each image the winners of a site (units that won a position; at a dense site units that
    fired) are put in order of their contribution to the predicted logit. *Deletion* sets them to
    zero at every position, one share after the other, strongest first; *insertion* starts with
    the site at zero and adds them. After every step the network runs again, competition of later
    layers included, and the probability and the logit of the class that the intact network
    predicts are read. Each curve runs over the share of winners from 0 to 1; its area is compared
    with that of random orders of the same winners. The same winners are also kept alone, the
    strongest few of them.

    Deletion and insertion curves: Petsiuk, Das and Saenko, "RISE" (BMVC 2018), after the
    perturbation curves of Samek et al. (IEEE TNNLS 2017); here units take the place of pixels.

    Args:
        model: A classifier.
        probes: Images; broken ones are skipped and counted. One image at a time is run in all its
            variants, in batches of ``options.batch_size``, so that memory does not grow with the
            images, but for about 40 numbers of each image and site.
        sites: From :func:`neuronym.record.find_sites`, or of an atlas.
        options: Order, steps and seeds.

    Raises:
        InputError: No site, a site that is not in the model or has another number of units, a
            model that draws its winners at random or whose logits are not finite, or no image
            with a winner.
    """
    options = options or FaithfulnessOptions()
    if not sites:
        raise InputError("no site to measure; give at least one")
    collected = [_Collected(model.module, site, options) for site in sites]
    stream = batches(
        probes,
        batch_size=min(ATTRIBUTED, options.batch_size),
        workers=options.workers,
        prepare={INPUT: model.transform},
    )
    done = 0
    with stream:
        for batch in stream:
            inputs = torch.stack(batch.prepared[INPUT]).to(device_of(model.module))
            for each in collected:
                each.add(model, batch, inputs)
            done += len(batch)
            if options.progress is not None:
                total = stream.total or 0
                options.progress(done + len(stream.skipped), total, "")
    return Faithfulness(
        sites=tuple(each.result() for each in collected),
        options=options.to_dict(),
        images=done,
        skipped=tuple(skipped.id for skipped in stream.skipped),
    )


class _Collected:
    """What has been measured at one site so far."""

    def __init__(self, module: nn.Module, site: Site | SiteInfo, options: FaithfulnessOptions):
        self.place = place_of(module, site.name, site.channel_dim)
        self.run = MaskedRuns(module, self.place, batch_size=options.batch_size)
        self.units = site.units
        self.options = options
        self.grid = np.arange(options.steps + 1) / options.steps
        self.rows: list[dict[str, float]] = []
        self.ids: list[str] = []
        self.sums: dict[str, Floats] = {}
        self.without = 0

    def add(self, model: LoadedModel, batch: Batch, inputs: Tensor) -> None:
        """Measure the images of a batch."""
        intact = intact_pass(model.module, inputs, self.place)
        found = intact.winners.shape[1]
        if found != self.units:
            raise InputError(f"site {self.place.name!r} has {found} units here, not {self.units}")
        for row, (key, name) in enumerate(zip(batch.indices.tolist(), batch.ids, strict=True)):
            if not np.isfinite(intact.logits[row]).all():
                raise InputError(f"the logits of image {name!r} are not finite")
            laid = self._plan(intact, row, key)
            if laid is None:
                self.without += 1
                continue
            logits = self.run(inputs[row], laid.keeps(self.units))
            if not np.isfinite(logits).all():
                raise InputError(
                    f"without some units of site {self.place.name!r} the logits of image {name!r} "
                    "are not finite"
                )
            self._keep(laid, logits, int(intact.targets[row]))
            self.ids.append(name)

    def _plan(self, intact: Intact, row: int, key: int) -> Plan | None:
        winners = intact.winners[row].nonzero()[0]
        if not len(winners):
            return None
        strength = ORDERS[self.options.order]
        return plan(
            strength(intact.contributions[row], intact.activations[row]),
            winners,
            steps=self.options.steps,
            random_orders=self.options.random_orders,
            fractions=self.options.fractions,
            seed=(self.options.seed, key),
        )

    def _keep(self, laid: Plan, logits: Floats, target: int) -> None:
        probability = laid.read(softmax(logits, axis=1)[:, target])
        logit = laid.read(logits[:, target])
        stays = laid.read((logits.argmax(1) == target).astype(np.float64))
        self.rows.append(_row(laid, probability, logit, stays))
        for kind, paths in (("probability", probability), ("logit", logit)):
            curves = {
                "deletion": paths.deletion,
                "insertion": paths.insertion,
                "random": paths.random.mean(0),
            }
            for name, curve in curves.items():
                column = f"{name}_{kind}"
                on_grid = np.interp(self.grid, laid.shares, curve)
                self.sums[column] = self.sums.get(column, 0.0) + on_grid

    def result(self) -> SiteFaithfulness:
        """Return what was measured."""
        if not self.rows:
            raise InputError(
                f"no image has a winner at site {self.place.name!r}: nothing can be removed"
            )
        count = len(self.rows)
        return SiteFaithfulness(
            site=self.place.name,
            competitive=self.place.competes,
            units=self.units,
            without_winners=self.without,
            ids=tuple(self.ids),
            shares=self.grid,
            curves={name: total / count for name, total in self.sums.items()},
            table={name: np.array([row[name] for row in self.rows]) for name in self.rows[0]},
        )


def _row(laid: Plan, probability: Paths, logit: Paths, stays: Paths) -> dict[str, float]:
    """Return the numbers of one image; see ``SiteFaithfulness.table``."""
    row = {
        "winners": float(laid.winners),
        "probability": probability.whole,
        "probability_without": probability.none,
        "stays_without": stays.none,
        "logit": logit.whole,
        "logit_without": logit.none,
        "logit_drop": logit.whole - logit.none,
    }
    for kind, paths, floor in (("probability", probability, 0.0), ("logit", logit, logit.none)):
        row[f"deletion_{kind}"] = float(area(laid.shares, paths.deletion - floor))
        row[f"insertion_{kind}"] = float(area(laid.shares, paths.insertion - floor))
        row[f"random_{kind}"] = float(area(laid.shares, paths.random - floor).mean())
    for index in range(len(laid.kept)):
        for kind, paths in (("probability", probability), ("stays", stays)):
            row[f"{kind}_kept_{index}"] = float(paths.kept[index])
            row[f"{kind}_random_kept_{index}"] = float(paths.random_kept[:, index].mean())
    return row
