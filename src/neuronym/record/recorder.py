"""The recorder: every image's pooled activations into a store, and counts beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn

from neuronym.masks import MaskReader
from neuronym.probes import Batch
from neuronym.record.capture import Capture, Captured
from neuronym.record.pooling import PoolingChoice
from neuronym.record.sites import Site
from neuronym.store import StoreWriter

__all__ = ["Recorder", "SiteStats", "Transform"]

INDICES = "indices"
"""Name of the array of places in the probe set."""

Transform = Callable[[Image.Image], Tensor]


@dataclass(eq=False)
class SiteStats:
    """What was counted at one site over all images.

    Attributes:
        fired: ``(units,)`` int64, images on which the pooled activation is above zero.
        won: ``(units,)`` int64, positions that the unit won; ``None`` at a dense site.
        active: Entries over all units, images and positions that a mask let pass or, at a dense
            site, that are not zero.
        values: All of them.
    """

    fired: npt.NDArray[np.int64]
    won: npt.NDArray[np.int64] | None
    active: int = 0
    values: int = 0

    def add(self, captured: Captured) -> None:
        """Count one batch."""
        self.fired += (captured.pooled > 0).sum(0)
        if self.won is not None and captured.won is not None:
            self.won += captured.won
        self.active += captured.active
        self.values += captured.values


class Recorder:
    """Runs batches through a model and hands pooled activations of its sites to a store.

    Use it as a context, see :class:`neuronym.record.capture.Capture`. Every batch of
    :func:`neuronym.probes.batches` that is added appends rows to the array of each site and to the
    array of places in the probe set.

    Args:
        module: The model; it runs where its parameters are.
        sites: From :func:`neuronym.record.find_sites`.
        transform: One PIL image → one input tensor.
        writer: Of a new store.
        pooling: See :func:`neuronym.record.pooling.pooling_for`.
        masks: Who won, for the sites that compete.
    """

    def __init__(
        self,
        module: nn.Module,
        sites: Sequence[Site],
        *,
        transform: Transform,
        writer: StoreWriter,
        pooling: PoolingChoice = None,
        masks: MaskReader | None = None,
    ) -> None:
        self._capture = Capture(module, sites, pooling=pooling, masks=masks)
        self._transform = transform
        self._writer = writer
        competitors = masks.competitors if masks else {}
        self._stats = {
            site.name: SiteStats(
                np.zeros(site.units, np.int64),
                np.zeros(site.units, np.int64) if site.module in competitors else None,
            )
            for site in sites
        }

    def __enter__(self) -> Recorder:
        self._capture.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._capture.__exit__(kind, error, trace)

    def add(self, batch: Batch) -> None:
        """Run one batch and append its rows.

        Raises:
            InputError: A site was not called as in the sample, or its output has another shape.
        """
        inputs = torch.stack([self._transform(image) for image in batch.images])
        for site, captured in self._capture.run(inputs).items():
            self._writer.append(array_name(site), captured.pooled)
            self._stats[site].add(captured)
        self._writer.append(INDICES, batch.indices)

    def stats(self) -> dict[str, SiteStats]:
        """Site → what was counted so far."""
        return dict(self._stats)


def array_name(site: str) -> str:
    """Return the name of the array that holds a site's pooled activations."""
    return f"activations/{site}"


def counts_name(site: str) -> str:
    """Return the name of the array that holds a site's counts per unit."""
    return f"counts/{site}"
