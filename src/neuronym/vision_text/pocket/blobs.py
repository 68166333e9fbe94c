"""How many things stand out from the background: connected regions of an image at 64 × 64."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from neuronym.vision_text.pocket.colours import colour_distance, lab_and_shares

__all__ = ["BLOB_NUMBERS", "blob_numbers"]

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

_THRESHOLDS = (18.0, 28.0, 40.0, 55.0)
_MARGIN = 3
_EDGE_STEP = 17
_SMALLEST = 20
_SIMILAR = 0.25
_MOST = 5
_PER_THRESHOLD = _MOST + 4
BLOB_NUMBERS = _PER_THRESHOLD * len(_THRESHOLDS)


def blob_numbers(reduced: npt.NDArray[np.uint8]) -> FloatArray:
    """Count regions that differ from every colour along the image's border.

    Args:
        reduced: ``(images, side, side, 3)`` uint8, sRGB.

    Returns:
        ``(images, 36)`` float32: for each of four thresholds in L*a*b* the logarithm of 1 + the
        number of regions, one-hot 1 to 5 and "more" of the number of regions of similar size,
        the root of the mean share of these, and the root of the share of all.
    """
    count, side = len(reduced), reduced.shape[1]
    lab, _ = lab_and_shares(reduced)
    edges = [
        lab[:, :_MARGIN].reshape(count, -1, 3),
        lab[:, -_MARGIN:].reshape(count, -1, 3),
        lab[:, :, :_MARGIN].reshape(count, -1, 3),
        lab[:, :, -_MARGIN:].reshape(count, -1, 3),
    ]
    edge = np.concatenate(edges, axis=1)[:, ::_EDGE_STEP]
    distance = np.empty((count, side * side), dtype=np.float32)
    for index in range(count):
        row = slice(index, index + 1)
        distance[row] = colour_distance(lab[row].reshape(1, -1, 3), edge[row])
    masks = distance[:, None] > np.array(_THRESHOLDS, dtype=np.float32)[:, None]
    opened = _opened(masks.reshape(-1, side, side))
    numbers = np.array(
        [
            _summary(sizes, found, side * side)
            for sizes, found in zip(_region_sizes(opened), opened.mean(axis=(1, 2)), strict=True)
        ],
        dtype=np.float32,
    )
    return numbers.reshape(count, BLOB_NUMBERS)


def _opened(masks: BoolArray) -> BoolArray:
    """Binary opening of ``(masks, side, side)`` by a cross of 3 × 3; outside is background."""
    eroded = _neighbours(masks, np.logical_and)
    return _neighbours(eroded, np.logical_or)


def _neighbours(masks: BoolArray, combine: np.ufunc) -> BoolArray:
    wide = np.pad(masks, ((0, 0), (1, 1), (1, 1)))
    rows = combine(wide[:, :-2, 1:-1], wide[:, 2:, 1:-1])
    columns = combine(wide[:, 1:-1, :-2], wide[:, 1:-1, 2:])
    result: BoolArray = combine(combine(rows, columns), masks)
    return result


def _region_sizes(masks: BoolArray) -> list[npt.NDArray[np.int64]]:
    """Sizes of the connected regions of every mask, in one labelling of the whole stack."""
    from scipy import ndimage

    structure = np.zeros((3, 3, 3), dtype=np.bool_)
    structure[1] = ndimage.generate_binary_structure(2, 1)  # masks are not connected
    labelled, found = ndimage.label(masks, structure=structure)
    sizes = np.bincount(labelled.ravel(), minlength=found + 1)[1:]
    ends = np.maximum.accumulate(labelled.max(axis=(1, 2)))  # labels are given in order
    return np.split(sizes, ends[:-1])


def _summary(sizes: npt.NDArray[np.int64], covered: float, pixels: int) -> tuple[float, ...]:
    largest = int(sizes.max()) if len(sizes) else 0
    similar = sizes[(sizes >= _SIMILAR * largest) & (sizes >= _SMALLEST)]
    number = len(similar)
    return (
        float(np.log1p(len(sizes))),
        *(float(number == wanted) for wanted in range(1, _MOST + 1)),
        float(number > _MOST),
        float(np.sqrt(similar.mean() / pixels)) if number else 0.0,
        float(np.sqrt(covered)),
    )
