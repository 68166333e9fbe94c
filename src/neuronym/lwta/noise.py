"""Counter-based noise: a key and an element's index determine its value.

The same key gives the same noise on every device, for every memory layout and thread count, and
in the plain and the fused path alike. Nothing has to be stored for the backward pass but the key.

An element's index is row-major with the channel dimension moved last. It goes through three
32-bit multiplications with xor-shifts between them (the construction of MurmurHash3's finaliser
by Appleby and of splitmix by Steele, Lea and Flood) and takes up two words derived from the key.
The top 23 bits become a uniform number in the open interval (0, 1), exact in float32.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["Part", "draw_key", "gumbel", "key_words", "uniform"]

MASK = 0xFFFFFFFF
GOLDEN = 0x9E3779B9
HASH_1, HASH_2, HASH_3 = 0x9E3779B1, 0x85EBCA6B, 0xC2B2AE35


def draw_key(generator: torch.Generator | None = None) -> Tensor:
    """Draw one key from ``generator``, or from torch's default CPU generator.

    Returns:
        A 0-dimensional int64 tensor on the CPU, in ``[0, 2**63 - 1)``.
    """
    device = generator.device if generator is not None else torch.device("cpu")
    drawn = torch.randint(0, 2**63 - 1, (), generator=generator, device=device)
    return drawn.cpu()


@dataclass(frozen=True)
class Part:
    """Which images of a larger batch a forward sees, so that its noise is the batch's.

    Several processes, or several passes of one, that share a batch and draw the same keys give
    the winners of one pass over all of it: each counts elements from the place of its first image.

    Attributes:
        start: Number of the first image within the batch.
        count: Images of this forward, at least 1.
    """

    start: int
    count: int

    def offset(self, elements: int) -> int:
        """Return the noise index of the first of ``elements``, which the images share equally."""
        return elements // self.count * self.start


def mix(word: Any) -> Any:
    """Return the 32-bit finaliser of MurmurHash3 of ``word`` (an int, or int64 elements)."""
    word = word ^ (word >> 16)
    word = (word * 0x85EBCA6B) & MASK
    word = word ^ (word >> 13)
    word = (word * 0xC2B2AE35) & MASK
    return word ^ (word >> 16)


def key_words(key: Any) -> tuple[Any, Any]:
    """Return the two 32-bit words of a key (an int or an int64 tensor) for the index hash."""
    first = mix((key & MASK) ^ GOLDEN)
    second = mix(((key >> 32) & MASK) ^ first)
    return mix((first + second) & MASK), second


def uniform(
    shape: tuple[int, ...],
    *,
    key: int | Tensor,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
    offset: int = 0,
) -> Tensor:
    """Return uniform numbers ``(k + 0.5) / 2**23`` with ``k`` in ``0 … 2**23 - 1``.

    Args:
        shape: Shape of the result; the value at an index depends on the row-major index only.
        key: From :func:`draw_key`, or any non-negative int below ``2**63``.
        dtype: float32 or float64 (both hold the same numbers).
        device: Where the result lives.
        offset: Index of the first element, at least 0.
    """
    first, second = key_words(key)
    index = torch.arange(math.prod(shape), device=device, dtype=torch.int64) + offset
    word = (((index & MASK) ^ first) * HASH_1) & MASK
    word = word ^ (word >> 16)
    word = ((word + second + (index >> 32) * HASH_1) * HASH_2) & MASK
    word = word ^ (word >> 15)
    word = (word * HASH_3) & MASK
    result: Tensor = ((word >> 9).to(dtype) + 0.5) * 2.0**-23
    return result.view(shape)


def gumbel(
    shape: tuple[int, ...],
    *,
    key: int | Tensor,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
    offset: int = 0,
) -> Tensor:
    """Return standard Gumbel noise, ``-log(-log(u))``, between -2.82 and 16.64.

    Args:
        shape: Shape of the result.
        key: As for :func:`uniform`.
        dtype: float32 or float64.
        device: Where the result lives.
        offset: As for :func:`uniform`.
    """
    drawn = uniform(shape, key=key, dtype=dtype, device=device, offset=offset)
    return -torch.log(-torch.log(drawn))
