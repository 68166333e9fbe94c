"""Explain a whole data set: tables of images, winners and classes, in bounded memory."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch

from neuronym._version import __version__
from neuronym.errors import InputError, UnreadableError, nearest
from neuronym.explain.class_sums import ClassSums
from neuronym.explain.finish import finish
from neuronym.explain.parts import PARTS, Part, Parts
from neuronym.explain.stream import INPUT, Chosen, ContributionBatch, batch_contributions
from neuronym.explain.tables import Names
from neuronym.explain.targets import PREDICTED, TargetChoice
from neuronym.files import (
    LOCK,
    MANIFEST,
    claim_folder,
    fingerprint,
    fingerprint_file,
    held_kind,
    locked,
    read_manifest,
    read_record,
    write_json,
)
from neuronym.models import LoadedModel
from neuronym.probes import (
    Batches,
    Pieces,
    ProbePieces,
    ProbeSet,
    check_complete,
    pieces_of,
    subset,
)
from neuronym.record.runs.layout import flat, guarded
from neuronym.results import Atlas, ExplanationSet, SiteInfo
from neuronym.results.explanations import KIND, SCHEMA
from neuronym.store import differences

__all__ = ["ExplainSetOptions", "explain_set"]

INFO = "explanations.json"


@dataclass(frozen=True)
class ExplainSetOptions:
    """How a data set is explained.

    Attributes:
        most: Winners that are listed of each image and site, by the size of their contribution;
            what the others add is summed in the image's ``rest``. ``None`` lists all.
        limit: Explain only the first so many images.
        part: Images per part: what a killed process may have to compute again.
        batch_size: Images per forward pass.
        workers: Threads that decode; ``None`` takes one per processor, at most 4.
        overwrite: Whether an earlier result in the folder is replaced.
        progress: Called with ``(images done, images or None, note)``.

    Raises:
        InputError: A number is below 1.
    """

    most: int | None = 50
    limit: int | None = None
    part: int = 2000
    batch_size: int = 64
    workers: int | None = None
    overwrite: bool = False
    progress: Callable[[int, int | None, str], None] | None = None

    def __post_init__(self) -> None:
        for name in ("most", "limit", "part", "batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} must be at least 1, not {value}")


def explain_set(
    model: LoadedModel,
    images: ProbeSet | Pieces,
    *,
    atlas: Atlas,
    out: str | Path,
    sites: str | Sequence[str] | None = None,
    targets: TargetChoice = PREDICTED,
    options: ExplainSetOptions | None = None,
) -> ExplanationSet:
    """Explain every image of a data set, and write tables that can be queried.

    The folder holds ``images.parquet`` (one row per image and site), ``winners/part-*.parquet``
    (the winners of each image, as :func:`neuronym.explain.explain` lists them) and
    ``classes.parquet`` (what every unit adds to every class on average). Memory does not grow
    with the number of images. Repeat the call after a kill, and it goes on with the part that was
    being computed; the tables are then those of a run that was never stopped.

    Args:
        model: The model that the atlas was made from.
        images: The images; broken ones are skipped and listed in ``skipped.parquet``.
        atlas: Where sites and names come from.
        out: The folder to write.
        sites: Names or patterns (``*``) of sites of the atlas, in a list or separated by commas;
            by default its last competitive site, else its last site. Each explains the logits on
            its own.
        targets: The logit that is explained: ``"predicted"``, ``"label"``, or one class by index
            or name for all images.
        options: How much is listed, batches, threads, progress.

    Raises:
        InputError: The atlas is of another model; a site, class or label does not exist; the
            folder holds explanations of something else (the text says which fields differ); no
            image could be read; or a number is not finite.
        FolderInUseError: The folder holds something else, or another process writes into it.
        UnreadableError: A finished folder is damaged, or a source gave fewer images than it said.
    """
    options = options or ExplainSetOptions()
    _check_same_model(model, atlas)
    infos = chosen_sites(atlas, sites)
    pieces = _pieces(images, options)
    labelled = not isinstance(pieces, ProbePieces) or pieces.probes.labels is not None
    chosen = Chosen.of(model, infos, targets, pieces.label_names, labelled=labelled)
    identity = _identity(model, pieces, atlas, chosen, options)
    folder = _begin(Path(out), identity, options)
    if (folder / MANIFEST).is_file():
        _check_whole(folder)
        shutil.rmtree(folder / PARTS, ignore_errors=True)  # of a process killed at its very end
        return ExplanationSet.load(folder)
    names = Names(
        model.class_names,
        {site.name: tuple(unit.name for unit in atlas.of_site(site.name)) for site in infos},
    )
    with locked(folder, doing="explains"):
        parts = Parts(folder, infos, names, most=options.most)
        writer = _Writer(model, pieces, chosen, parts, options)
        sums = writer.write()
        with guarded("writing the tables"):
            finish(
                folder,
                infos,
                names,
                count=pieces.count,
                parts=parts,
                sums=sums,
                provenance=_provenance(identity, model, pieces, atlas),
            )
        shutil.rmtree(folder / PARTS, ignore_errors=True)
    return ExplanationSet.load(folder)


def chosen_sites(atlas: Atlas, sites: str | Sequence[str] | None) -> tuple[SiteInfo, ...]:
    """Return the sites of an atlas that match, in its order; see :func:`explain_set`.

    Raises:
        InputError: A name or pattern matches no site; the text shows the nearest ones.
    """
    if not atlas.sites:
        raise InputError("the atlas has no site")
    if sites is None:
        competitive = [site for site in atlas.sites if site.competitors is not None]
        return ((competitive or list(atlas.sites))[-1],)
    given = [sites] if isinstance(sites, str) else list(sites)
    wanted = [part.strip() for text in given for part in text.split(",") if part.strip()]
    known = [site.name for site in atlas.sites]
    for pattern in wanted:
        if not any(fnmatchcase(name, pattern) for name in known):
            close = ", ".join(nearest(pattern, known) or known[:5])
            raise InputError(f"atlas has no site {pattern!r}; nearest: {close}")
    found = tuple(
        site for site in atlas.sites if any(fnmatchcase(site.name, each) for each in wanted)
    )
    if not found:
        raise InputError(f"no site in {sites!r}; the atlas has {', '.join(known[:5])}")
    return found


class _Writer:
    def __init__(
        self,
        model: LoadedModel,
        pieces: Pieces,
        chosen: Chosen,
        parts: Parts,
        options: ExplainSetOptions,
    ) -> None:
        self._model, self._pieces, self._chosen = model, pieces, chosen
        self._parts, self._options = parts, options
        self._done = 0

    def write(self) -> ClassSums:
        """Write what is lacking, part by part; return the sums over all of them."""
        covered, sums = self._parts.begin()
        ends = []
        for number in range(self._pieces.count):
            found = self._parts.whole(number) if number < covered else None
            if found is None:
                with guarded(f"part {number} of {self._pieces.name!r}"):
                    found = self._part(number, None if number < covered else sums)
            else:
                self._say(found.end, "found")
            ends.append(found.end)
        check_complete(self._pieces, ends)
        return sums

    def _part(self, number: int, sums: ClassSums | None) -> Part:
        with self._pieces.open(
            number,
            batch_size=self._options.batch_size,
            workers=self._options.workers,
            prepare={INPUT: self._model.transform},
        ) as stream:
            return self._parts.write(
                number, self._batches(stream), skipped=stream.skipped, sums=sums
            )

    def _batches(self, stream: Batches) -> Iterator[ContributionBatch]:
        known = 0
        for batch in stream:
            yield batch_contributions(self._model, batch, self._chosen)
            skipped, known = len(stream.skipped) - known, len(stream.skipped)
            self._say(len(batch) + skipped, "")
        self._say(len(stream.skipped) - known, "")

    def _say(self, images: int, note: str) -> None:
        self._done += images
        if self._options.progress is not None and images:
            self._options.progress(self._done, self._pieces.total, note)


def _pieces(images: ProbeSet | Pieces, options: ExplainSetOptions) -> Pieces:
    if isinstance(images, Pieces):
        if options.limit is not None:
            raise InputError(
                f"limit needs images that are read in any order; {images.name!r} is read in pieces"
            )
        return images
    if options.limit is not None and options.limit < len(images):
        images = subset(images, range(options.limit))
    return pieces_of(images, length=options.part)


def _begin(folder: Path, identity: Mapping[str, Any], options: ExplainSetOptions) -> Path:
    """Make the folder, or go on in it where it holds a part of these very explanations."""
    if not options.overwrite and held_kind(folder) == KIND and (folder / INFO).is_file():
        found = read_record(folder / INFO, kind=KIND, schema=SCHEMA)["identity"]
        different = differences(flat(found), flat(identity))
        if different:
            more = f" and {len(different) - 5} more" if len(different) > 5 else ""
            raise InputError(
                f"{str(folder)!r} holds explanations of something else: "
                f"{'; '.join(different[:5])}{more}; give a new folder or pass --overwrite"
            )
        return folder
    claim = claim_folder(folder, kind=KIND, overwrite=options.overwrite)
    held = (folder / LOCK).exists()
    with locked(folder, doing="explains") if held else contextlib.nullcontext():
        claim.clear()
    write_json(folder / INFO, {"kind": KIND, "schema": SCHEMA, "identity": identity})
    return folder


def _check_whole(folder: Path) -> None:
    manifest = read_manifest(folder, kind=KIND, schema=SCHEMA)
    for name, expected in manifest["files"].items():
        path = folder / name
        if not path.is_file() or fingerprint_file(path) != expected:
            raise UnreadableError(
                f"{str(path)!r} is lost or damaged; repeat the command with --overwrite"
            )


def _identity(
    model: LoadedModel,
    pieces: Pieces,
    atlas: Atlas,
    chosen: Chosen,
    options: ExplainSetOptions,
) -> dict[str, Any]:
    """Return all that determines the numbers, beyond rounding."""
    rows = {}
    for site in chosen.sites:
        row = asdict(site)
        row["names"] = fingerprint([[unit.name, unit.block] for unit in atlas.of_site(site.name)])
        rows[site.name] = {key: row[key] for key in row if key not in ("name", "active_fraction")}
    target = "label" if chosen.by_label else "predicted" if chosen.fixed is None else chosen.fixed
    return {
        "model": model.fingerprint,
        "classes": fingerprint(model.class_names, pieces.label_names),
        "images": pieces.fingerprint,
        "number_of_images": pieces.total,
        "part": options.part if isinstance(pieces, ProbePieces) else None,
        "sites": rows,
        "targets": target,
        "most": options.most,
        "versions": {"neuronym": __version__, "torch": torch.__version__},
    }


def _provenance(
    identity: Mapping[str, Any], model: LoadedModel, pieces: Pieces, atlas: Atlas
) -> dict[str, Any]:
    folder = None if atlas.folder is None else str(atlas.folder)
    return {
        "model": {"spec": model.spec, "fingerprint": model.fingerprint},
        "images": {"spec": pieces.name, "fingerprint": pieces.fingerprint},
        "atlas": {"folder": folder, "vision_text": atlas.provenance.get("vision_text")},
        "targets": identity["targets"],
        "most": identity["most"],
        "versions": identity["versions"],
    }


def _check_same_model(model: LoadedModel, atlas: Atlas) -> None:
    made_from: Mapping[str, Any] = atlas.provenance.get("model", {})
    expected = made_from.get("fingerprint")
    if expected is not None and expected != model.fingerprint:
        raise InputError(
            f"the atlas was made from another model: its fingerprint is {expected} "
            f"({made_from.get('spec')!r}), this one's is {model.fingerprint} ({model.spec!r})"
        )
