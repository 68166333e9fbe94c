"""The deterministic network as a file: ONNX, or an exported program of torch.

Both hold the evaluation-mode network, in which the largest unit of each block wins, with a free
batch size, and what it takes to use it: class names and preprocessing.
"""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from neuronym._version import __version__
from neuronym.errors import FolderInUseError, InputError, UnavailableError, unknown
from neuronym.files import atomic_path
from neuronym.lwta import lwta_modules
from neuronym.models.base import LoadedModel
from neuronym.models.hooks import edits_on
from neuronym.models.preprocessing import Preprocessing

__all__ = ["EXTRA", "FORMATS", "ExportResult", "export", "export_details"]

EXTRA = "neuronym.json"
"""Name under which an exported program and the metadata of ONNX carry the details."""
INPUT, OUTPUT = "images", "logits"
_ONNX_BYTES = 2 * 10**9  # the format's limit for one file is 2 GiB
_CHECK_SIZES = (1, 3)


@dataclass(frozen=True)
class ExportResult:
    """What :func:`export` wrote.

    Attributes:
        path: The file.
        kind: ``".onnx"`` or ``".pt2"``.
        difference: Largest absolute difference of a logit, file against network, on random inputs
            in batches of 1 and 3; ``None`` where it was not compared.
        largest: Largest absolute logit on those inputs.
        agree: Whether the most probable class was the same for all of them.
    """

    path: Path
    kind: str
    difference: float | None
    largest: float | None
    agree: bool | None


def export(
    model: LoadedModel, path: str | Path, *, check: bool = True, overwrite: bool = False
) -> ExportResult:
    """Write the deterministic network to ``FILE.onnx`` or ``FILE.pt2``.

    The input is ``images``, (N, C, H, W) float32 as the model's transform gives it, with any N;
    the output is ``logits``, (N, classes). The model itself is left as it is.

    Args:
        model: From :func:`neuronym.models.load`.
        path: Its ending chooses the format: a key of :data:`FORMATS`.
        check: Run the file and compare it with the network (ONNX: by onnxruntime).
        overwrite: Replace a file that is there.

    Raises:
        UnknownNameError: The ending is another one.
        FolderInUseError: There is such a file already.
        UnavailableError: ONNX needs packages that are not installed.
        InputError: The network cannot be traced, is too large for ONNX, or the file does not
            compute what the network computes.
    """
    path = Path(path)
    if path.suffix not in FORMATS:
        raise unknown("export format", path.suffix or path.name, list(FORMATS))
    if path.exists() and not overwrite:
        raise FolderInUseError(f"{str(path)!r} exists already; pass overwrite to replace it")
    write, run = FORMATS[path.suffix]
    module = _deterministic(model.module)
    details = json.dumps(export_details(model), ensure_ascii=False)
    with _quiet(), torch.no_grad(), atomic_path(path) as temporary:
        program = _program(module, model.input_size)
        write(program, module, temporary, details)
        found = _compared(module, run(temporary), model) if check else (None, None, None)
    return ExportResult(path, path.suffix, *found)


def export_details(model: LoadedModel) -> dict[str, Any]:
    """Return what a user of the file needs: classes, preprocessing, competition, origin."""
    transform = model.transform
    return {
        "kind": "neuronym-export",
        "version": __version__,
        "spec": model.spec,
        "fingerprint": model.fingerprint,
        "input_size": list(model.input_size),
        "class_names": None if model.class_names is None else list(model.class_names),
        "preprocessing": transform.to_dict() if isinstance(transform, Preprocessing) else None,
        "competitors": {
            name: part.competitors for name, part in lwta_modules(model.module).items()
        },
        "edits": edits_on(model.module),
    }


def _deterministic(module: nn.Module) -> nn.Module:
    """Return a copy in evaluation mode, on the CPU, in which the largest unit wins."""
    copied = copy.deepcopy(module).cpu().to(memory_format=torch.contiguous_format).eval()
    for part in lwta_modules(copied).values():
        part.mode = "argmax"
    return copied.requires_grad_(False)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's notes about its own internals from the user."""
    names = ("torch.onnx", "torch.export", "onnxscript", "onnx_ir", "torch.fx")
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _program(module: nn.Module, input_size: tuple[int, int, int]) -> torch.export.ExportedProgram:
    images = torch.zeros(2, *input_size)
    shapes = ({0: torch.export.Dim("batch", min=1)},)
    try:
        return torch.export.export(module, (images,), dynamic_shapes=shapes, strict=False)
    except Exception as error:  # torch raises errors of many kinds for what it cannot trace
        text = " ".join(str(error).split())[:200]
        raise InputError(
            f"torch.export cannot trace the {type(module).__name__}: {text}"
        ) from error


def _write_onnx(
    program: torch.export.ExportedProgram, module: nn.Module, path: Path, details: str
) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            raise UnavailableError(
                f"ONNX export needs {package}: pip install 'neuronym[export]', or export to .pt2"
            )
    size = sum(value.numel() * value.element_size() for value in module.state_dict().values())
    if size > _ONNX_BYTES:
        raise InputError(f"the network takes {size / 1e9:.1f} GB, an ONNX file at most 2: use .pt2")
    try:
        made: Any = torch.onnx.export(
            program,
            (),
            dynamo=True,
            input_names=[INPUT],
            output_names=[OUTPUT],
            external_data=False,
            verbose=False,
        )
        made.model.metadata_props[EXTRA] = details
        made.save(str(path), external_data=False)
    except Exception as error:  # as above
        text = " ".join(str(error).split())[:200]
        raise InputError(f"the network cannot be written as ONNX: {text}") from error


def _write_program(
    program: torch.export.ExportedProgram, _: nn.Module, path: Path, details: str
) -> None:
    torch.export.save(program, path, extra_files={EXTRA: details})


def _run_onnx(path: Path) -> Callable[[Tensor], Tensor]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run([OUTPUT], {INPUT: images.numpy()})[0])


def _run_program(path: Path) -> Callable[[Tensor], Tensor]:
    module = torch.export.load(path).module()
    return lambda images: module(images)


_TOLERANCE = 1e-3  # of the largest logit
_Write = Callable[[torch.export.ExportedProgram, nn.Module, Path, str], None]
FORMATS: dict[str, tuple[_Write, Callable[[Path], Callable[[Tensor], Tensor]]]] = {
    ".onnx": (_write_onnx, _run_onnx),
    ".pt2": (_write_program, _run_program),
}
"""Ending of the file → how it is written, and how it is run."""


def _compared(
    module: nn.Module, run: Callable[[Tensor], Tensor], model: LoadedModel
) -> tuple[float, float, bool]:
    """Run both on random inputs.

    Raises:
        InputError: They differ.
    """
    generator = torch.Generator().manual_seed(0)
    worst, largest, agree = 0.0, 0.0, True
    for count in _CHECK_SIZES:
        images = torch.randn(count, *model.input_size, generator=generator)
        wanted, found = module(images), run(images)
        if found.shape != wanted.shape:
            raise InputError(f"the file gives {tuple(found.shape)}, not {tuple(wanted.shape)}")
        if not wanted.isfinite().all():
            raise InputError("the network's own logits are not finite; there is nothing to export")
        if not found.isfinite().all():
            raise InputError("the file's logits are not finite; it was not kept")
        worst = max(worst, float((found - wanted).abs().max()))
        largest = max(largest, float(wanted.abs().max()))
        agree = agree and bool((found.argmax(1) == wanted.argmax(1)).all())
    if not worst <= _TOLERANCE * max(1.0, largest):
        raise InputError(
            f"the file's logits differ from the network's by {worst:.3g} (largest logit "
            f"{largest:.3g}); it was not kept"
        )
    return worst, largest, agree
