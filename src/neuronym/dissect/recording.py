"""``record_run``: a model and a vision-text model over any number of images, into a run."""

from __future__ import annotations

import contextlib
import platform
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch import Tensor, nn

from neuronym._version import __version__
from neuronym.dissect.target import Target, on_device, sample_of, target_of
from neuronym.embed import embed_batch
from neuronym.errors import InputError, UnreadableError
from neuronym.files import MANIFEST
from neuronym.lwta.masks import mask_reader
from neuronym.models import LoadedModel, resize_side
from neuronym.probes import Batch, Pieces, ProbePieces, ProbeSet, pieces_of, reduced_side
from neuronym.record import Capture, PoolingChoice, Sites, find_sites, pooling_for
from neuronym.record.runs import (
    KEEPS,
    Run,
    RunInfo,
    Shard,
    Source,
    WriteOptions,
    begin,
    merge_runs,
    write_run,
)
from neuronym.train.team import Team, join_team
from neuronym.vision_text import VisionTextModel, resize_side_of

__all__ = ["Prepared", "RecordingOptions", "prepared", "record_run", "versions"]

_PARTS = ".processes"
_PACKAGES = ("torch", "torchvision", "timm", "numpy", "pillow", "transformers", "open_clip_torch")


@dataclass(frozen=True)
class RecordingOptions:
    """How a run is recorded.

    Attributes:
        pooling: Name of a pooling, a function, a mapping from site patterns to either, or
            ``None`` for the default of each site (:func:`neuronym.record.pooling_for`).
        channel_dims: Site pattern → dimension of the units, where it cannot be known otherwise.
        top: The sketches answer for this many top images of a unit: the largest ``top_k`` that a
            similarity may ask for later.
        sample: Images of the sample, for what needs activations: cosine cubed, rank-reorder,
            Jensen-Shannon, AUROC, linear explanations and formulas.
        keep: Which activations are kept of every image: ``"none"``, ``"winners"`` or ``"all"``.
        segment: Images that are recorded, checked and recorded again as a whole (sources that
            are read at random; a stream has one segment per shard file).
        shard: Which part of the source is recorded, see :func:`neuronym.record.parse_shard`.
        reduced: Decode JPEG files at a reduced size where both models shrink them anyway.
        batch_size: Images per forward pass.
        workers: Threads that decode; ``None`` takes one per processor, at most 4.
        device: Where the model runs; ``None`` takes the device of its parameters.
        overwrite: Begin anew where the folder holds another run.
        transform: One PIL image → one input tensor, for a model that is a plain module.
        progress: Called with ``(images done, images or None, note)``.
    """

    pooling: PoolingChoice = None
    channel_dims: Mapping[str, int] = field(default_factory=dict)
    top: int = 100
    sample: int = 2000
    keep: str = "none"
    segment: int = 4096
    shard: Shard = field(default_factory=Shard)
    reduced: bool = False
    batch_size: int = 32
    workers: int | None = None
    device: str | None = None
    overwrite: bool = False
    transform: Callable[[Image.Image], Tensor] | None = None
    progress: Callable[[int, int | None, str], None] | None = None

    def __post_init__(self) -> None:
        for name, least in (("top", 1), ("sample", 2), ("segment", 1), ("batch_size", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InputError(
                    f"{name} must be a whole number of at least {least}, not {value!r}"
                )
        if self.keep not in KEEPS:
            raise InputError(f"keep must be one of {', '.join(KEEPS)}, not {self.keep!r}")


def record_run(
    model: LoadedModel | nn.Module,
    images: ProbeSet | Pieces,
    vision_text: VisionTextModel,
    *,
    sites: str | Sequence[str],
    out: str | Path,
    options: RecordingOptions | None = None,
) -> Run:
    """Record a model's units and the embeddings of the same images, in one pass.

    The run answers any concept set, prompt and similarity later, without the images and without
    running a model on them again (:func:`neuronym.dissect.name_run`). It is written piece by
    piece: after a kill the same call goes on, and loses at most the batch that was being
    computed. Where ``accelerate launch`` or ``torchrun`` began several processes, each records a
    part and the first merges them.

    Args:
        model: A loaded model, or a plain module together with ``options.transform``.
        images: A probe set, or pieces of one (:func:`neuronym.probes.load_pieces`).
        vision_text: Embeds the images.
        sites: Module names with wildcards, as in :func:`neuronym.record.find_sites`.
        out: Folder of the run: new, empty, or an unfinished run of the same.
        options: Everything else.

    Returns:
        The run; its manifest was written last.

    Raises:
        InputError: No site matches, fewer than 2 readable images, a value that is not allowed,
            or ``out`` holds a run of something else (the text says which fields differ).
        FolderInUseError: ``out`` holds something that is not a run, or another process writes it.
        UnavailableError: The device is not there.
    """
    options = options or RecordingOptions()
    with prepared(model, images, vision_text, sites=sites, options=options) as ready:
        return ready.record(out)


@dataclass(frozen=True, eq=False)
class Prepared:
    """A recording that is ready to begin: the sites are found and the identity is known.

    Attributes:
        info: Identity, facts and shard of the run.
        target: The model.
        team: The processes that share the work.
        source: Images and models.
        options: How it is recorded.
    """

    info: RunInfo
    target: Target
    team: Team
    source: Source
    options: RecordingOptions

    def record(self, out: str | Path) -> Run:
        """Record into a folder what it still lacks, and open the run."""
        options = self.options
        if self.info.identity.get("pooling_function") and (
            self.team.size > 1 or self.info.shard.count > 1
        ):
            raise InputError(
                "a pooling function of one's own has no content to compare, so that shards and "
                "processes cannot know that they used the same; take a pooling by name"
            )
        self.team.led(lambda: _check_division(Path(out), self))
        if self.team.size == 1:
            place = begin(out, self.info, overwrite=options.overwrite)
            write_run(place, self.info, self.source, _writing(options))
        else:
            _write_together(Path(out), self.info, self.source, options, self.team)
        return Run(out, facts=self.info.facts)


@contextlib.contextmanager
def prepared(
    model: LoadedModel | nn.Module,
    images: ProbeSet | Pieces,
    vision_text: VisionTextModel,
    *,
    sites: str | Sequence[str],
    options: RecordingOptions,
    known: Callable[[Mapping[str, Any]], Run | None] | None = None,
) -> Iterator[Prepared]:
    """Find the sites and yield what records them; the model is on its device inside.

    Args:
        model, images, vision_text, sites, options: As in :func:`record_run`.
        known: Identity → another run over the same images with the same vision-text model, whose
            embeddings are read instead of computed; or ``None``.
    """
    target = target_of(model, options.transform)
    pieces = images if isinstance(images, Pieces) else pieces_of(images, length=options.segment)
    team = join_team(options.device)
    device = options.device if team.size == 1 else str(team.device)
    with on_device(target.module, device) as place:
        sample = sample_of(pieces, target.transform).to(place)
        found = _find(target, sites, sample, options)
        identity = _identity(target, pieces, vision_text, found, options)
        earlier = None if known is None else known(identity)
        source = Source(
            pieces=pieces,
            capture=Capture(
                target.module, found, pooling=options.pooling, masks=mask_reader(target.module)
            ),
            transform=target.transform,
            embed=_embedder(vision_text, earlier),
            at_least=_at_least(target, vision_text, options),
        )
        facts = _facts(target, pieces, vision_text, found, sites)
        facts["segment"] = pieces.piece_length if isinstance(pieces, ProbePieces) else None
        info = RunInfo(identity, facts, options.shard)
        yield Prepared(info, target, team, source, options)


def _embedder(
    vision_text: VisionTextModel, earlier: Run | None
) -> Callable[[Batch], npt.NDArray[np.float32]]:
    if earlier is None:
        return lambda batch: embed_batch(vision_text, batch)

    def embed(batch: Batch) -> npt.NDArray[np.float32]:
        try:
            return earlier.rows(batch.indices)
        except (InputError, UnreadableError):  # damaged, or an image that it could not read
            return embed_batch(vision_text, batch)

    return embed


def _check_division(out: Path, ready: Prepared) -> None:
    """Refuse to go on with another number of processes than the run was begun with."""
    parts = [path.name for path in (out / _PARTS).glob("*-of-*")]
    if not parts or ready.options.overwrite:
        return
    begun = int(parts[0].rpartition("-")[2]) // ready.info.shard.count
    if begun != ready.team.size:
        raise InputError(
            f"run {str(out)!r} was begun by {begun} processes and goes on with as many, not with "
            f"{ready.team.size}; or pass --overwrite"
        )


def _write_together(
    out: Path, info: RunInfo, source: Source, options: RecordingOptions, team: Team
) -> None:
    """Let every process record its part, then merge the parts in the first."""

    def start() -> bool:
        begin(out, info, overwrite=options.overwrite)
        return (out / MANIFEST).is_file()

    if team.led(start):
        return
    shard = info.shard
    parts = [
        Shard((shard.index - 1) * team.size + rank + 1, shard.count * team.size)
        for rank in range(team.size)
    ]
    folders = [out / _PARTS / f"{part.index}-of-{part.count}" for part in parts]
    own = RunInfo(info.identity, info.facts, parts[team.rank])
    write_run(
        begin(folders[team.rank], own),
        own,
        source,
        _writing(options) if team.leads else WriteOptions(options.batch_size, options.workers),
    )
    team.gather(None)

    def merge() -> None:
        merge_runs(folders, out, into=info)
        shutil.rmtree(out / _PARTS, ignore_errors=True)

    team.led(merge)


def _writing(options: RecordingOptions) -> WriteOptions:
    return WriteOptions(
        batch_size=options.batch_size, workers=options.workers, progress=options.progress
    )


def _find(
    target: Target, sites: str | Sequence[str], sample: Tensor, options: RecordingOptions
) -> Sites:
    masks = mask_reader(target.module)
    return find_sites(
        target.module,
        sites,
        sample,
        channel_dims=options.channel_dims,
        competitive=tuple(masks.competitors) if masks else (),
    )


def _identity(
    target: Target,
    pieces: Pieces,
    vision_text: VisionTextModel,
    found: Sites,
    options: RecordingOptions,
) -> dict[str, Any]:
    """Return all that determines the numbers of a run."""
    masks = mask_reader(target.module)
    competitors = masks.competitors if masks else {}
    rows: dict[str, Any] = {}
    own = False
    for site in found:
        pooling = pooling_for(options.pooling, site, competes=site.module in competitors)
        own |= not pooling.known
        row = {key: value for key, value in asdict(site).items() if key not in ("name", "aliases")}
        rows[site.name] = row | {
            "pooling": pooling.name,
            "competitors": competitors.get(site.module),
        }
    identity: dict[str, Any] = {
        "kind": "run",
        "schema": 1,
        "model": target.fingerprint,
        "images": pieces.fingerprint,
        "pieces": pieces.count,
        "vision_text": {"fingerprint": vision_text.fingerprint, "dim": int(vision_text.dim)},
        "sites": rows,
        "top": options.top,
        "sample": options.sample,
        "keep": options.keep,
        "decoded_at_least": _at_least(target, vision_text, options),
        "versions": versions(),
    }
    if own:  # a function of one's own has no content to compare: such a run never goes on
        identity["pooling_function"] = uuid.uuid4().hex
    return identity


def _facts(
    target: Target,
    pieces: Pieces,
    vision_text: VisionTextModel,
    found: Sites,
    sites: str | Sequence[str],
) -> dict[str, Any]:
    return {
        "model": target.spec,
        "images": pieces.name,
        "vision_text": vision_text.name,
        "logit_scale": float(vision_text.logit_scale),
        "label_names": None if pieces.label_names is None else list(pieces.label_names),
        "sites": sites if isinstance(sites, str) else ",".join(sites),
        "sites_left_out": found.left_out,
    }


def versions() -> dict[str, str]:
    """Return the versions of what makes the numbers."""
    installed = {package.metadata["Name"].lower() for package in metadata.distributions()}
    return {
        "neuronym": __version__,
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in _PACKAGES if name in installed},
    }


def _at_least(
    target: Target, vision_text: VisionTextModel, options: RecordingOptions
) -> int | None:
    """Return the smaller side of a decoded image that serves both models; ``None``: all of it."""
    if not options.reduced:
        return None
    return reduced_side(resize_side(target.transform), resize_side_of(vision_text))
