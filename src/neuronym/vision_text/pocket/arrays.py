"""The small fitted arrays: what they are, and how they are kept in safetensors files.

The text side's arrays are shared by all variants of the image tower; each variant has a file of
its own beside. Matrices are stored in half precision, vectors in single; all are used in float32.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from neuronym.errors import InputError, MissingError, UnreadableError
from neuronym.files import atomic_path, fingerprint

__all__ = ["SHIPPED", "ImageArrays", "TextArrays", "read_arrays", "write_arrays"]

FloatArray = npt.NDArray[np.float32]

SHIPPED = Path(__file__).parent / "data"
"""Folder of the files that come with the package: ``text.safetensors``, ``VARIANT.safetensors``."""

SCHEMA = 1
_KIND = "neuronym pocket arrays"


@dataclass(frozen=True)
class TextArrays:
    """Fitted arrays of the text side.

    Attributes:
        mean: (384,), subtracted from a MiniLM vector.
        whitening: (384, 384), applied to the right of it.
        labels: (1000, 384), unit label vectors in the whitened space.
        class_in, class_in_bias: (384, hidden), (hidden,): first layer from a MiniLM vector.
        class_out, class_out_bias: (hidden, 1000), (1000,): second layer, logits over the labels.
        word_in, word_in_bias: (384, hidden), (hidden,): first layer of the attribute reader.
        word_out, word_out_bias: (hidden, outputs), (outputs,): for every group its values and
            "none", then one logit for "says a thing".
        facts: ``groups`` (a list of group and values), and how the arrays were made.
    """

    mean: FloatArray
    whitening: FloatArray
    labels: FloatArray
    class_in: FloatArray
    class_in_bias: FloatArray
    class_out: FloatArray
    class_out_bias: FloatArray
    word_in: FloatArray
    word_in_bias: FloatArray
    word_out: FloatArray
    word_out_bias: FloatArray
    facts: Mapping[str, Any]

    @property
    def groups(self) -> dict[str, tuple[str, ...]]:
        """Values of each attribute group, in the order of the outputs."""
        return {group: tuple(values) for group, values in self.facts["groups"]}


@dataclass(frozen=True)
class ImageArrays:
    """Fitted arrays of the image side of one variant.

    Attributes:
        posterior_mean: (1000,), mean over reference photos of the softmax of the logits.
        tiny_bias: (1000,), added to the logits / 2 of tiny images.
        object_mean: (384,), mean over reference photos of posterior × label vectors.
        descriptor_mean, descriptor_scale: (numbers,), what standardises the descriptors.
        attribute_weights: (numbers, attributes), from standardised descriptors.
        facts: The weights of the parts, ``logit_scale``, and how the arrays were made.
    """

    posterior_mean: FloatArray
    tiny_bias: FloatArray
    object_mean: FloatArray
    descriptor_mean: FloatArray
    descriptor_scale: FloatArray
    attribute_weights: FloatArray
    facts: Mapping[str, Any]


Arrays = TypeVar("Arrays", TextArrays, ImageArrays)


def write_arrays(path: str | Path, arrays: TextArrays | ImageArrays) -> None:
    """Write arrays atomically; the facts go into the file's metadata.

    Raises:
        InputError: A number is not finite, or too large for half precision.
    """
    from safetensors.numpy import save_file

    tensors = {
        field.name: stored(getattr(arrays, field.name))
        for field in fields(arrays)
        if field.name != "facts"
    }
    for name, value in tensors.items():
        if not np.isfinite(value).all():
            raise InputError(f"array {name!r} holds a number that half precision cannot")
    metadata = {
        "kind": _KIND,
        "schema": str(SCHEMA),
        "part": type(arrays).__name__,
        "facts": json.dumps(arrays.facts, sort_keys=True),
    }
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata=metadata)


def stored(values: FloatArray) -> npt.NDArray[np.floating]:
    """Return values as they are kept: matrices in half precision, vectors in single.

    What half precision cannot hold becomes infinite.
    """
    kind = np.float16 if values.ndim > 1 else np.float32
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(values, dtype=kind)


def read_arrays(path: str | Path, part: type[Arrays]) -> tuple[Arrays, str]:
    """Read the arrays of one part, and 16 hexadecimal digits that identify the file by content.

    Raises:
        MissingError: There is no such file.
        UnreadableError: It is not a file of such arrays, or lacks one.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise MissingError(f"arrays of the pocket model {str(path)!r} do not exist")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise UnreadableError(f"{str(path)!r} is not a safetensors file: {error}") from error
    if metadata.get("kind") != _KIND or metadata.get("part") != part.__name__:
        raise UnreadableError(f"{str(path)!r} does not hold the pocket model's {part.__name__}")
    if metadata.get("schema") != str(SCHEMA):
        raise UnreadableError(
            f"{str(path)!r} has schema {metadata.get('schema')}; this version reads {SCHEMA}: "
            "fit again with `neuronym fit-pocket`"
        )
    wanted = [field.name for field in fields(part) if field.name != "facts"]
    if missing := [name for name in wanted if name not in found]:
        raise UnreadableError(f"{str(path)!r} lacks {', '.join(missing)}")
    values: dict[str, Any] = {name: found[name].astype(np.float32) for name in wanted}
    identity = fingerprint(path.read_bytes())
    return part(**values, facts=json.loads(metadata["facts"])), identity
