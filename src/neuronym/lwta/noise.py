"""Counter-based noise: a key and an element's index determine its value.

The same key gives the same noise on every device, for every memory layout and thread count, and
in the plain and the fused path alike. Nothing has to be stored for the backward pass but the key.

Each element's logical index (row-major over the tensor's shape) goes through two rounds of the
32-bit finaliser of MurmurHash3 (Appleby, public domain), with words derived from the key between
them. The top 23 bits become a uniform number in the open interval (0, 1), exact in float32.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor

__all__ = ["draw_key", "gumbel", "key_words", "uniform"]

MASK = 0xFFFFFFFF
GOLDEN = 0x9E3779B9
Word = TypeVar("Word", int, Tensor)


def draw_key(generator: torch.Generator | None = None) -> Tensor:
    """Draw one key from ``generator``, or from torch's default CPU generator.

    Returns:
        A 0-dimensional int64 tensor on the CPU, in ``[0, 2**63 - 1)``.
    """
    device = generator.device if generator is not None else torch.device("cpu")
    drawn = torch.randint(0, 2**63 - 1, (), generator=generator, device=device)
    return drawn.cpu()


def mix(word: Word) -> Word:
    """Return the 32-bit finaliser of MurmurHash3 of ``word`` (an int, or int64 elements)."""
    word = word ^ (word >> 16)
    word = (word * 0x85EBCA6B) & MASK
    word = word ^ (word >> 13)
    word = (word * 0xC2B2AE35) & MASK
    return word ^ (word >> 16)


def key_words(key: Word) -> tuple[Word, Word]:
    """Split a key into the two 32-bit words that the hash of an index uses."""
    first = mix((key & MASK) ^ GOLDEN)
    second = mix(((key >> 32) & MASK) ^ first)
    return mix((first + second) & MASK), second


def uniform(
    shape: tuple[int, ...],
    *,
    key: int | Tensor,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> Tensor:
    """Return uniform numbers ``(k + 0.5) / 2**23`` with ``k`` in ``0 … 2**23 - 1``.

    Args:
        shape: Shape of the result; the value at an index depends on the row-major index only.
        key: From :func:`draw_key`, or any non-negative int below ``2**63``.
        dtype: float32 or float64 (both hold the same numbers).
        device: Where the result lives.
    """
    first: int | Tensor
    second: int | Tensor
    first, second = key_words(key) if isinstance(key, Tensor) else key_words(key)
    count = 1
    for size in shape:
        count *= size
    index = torch.arange(count, device=device, dtype=torch.int64)
    word = mix((index & MASK) ^ first)
    word = mix((word + second + (index >> 32) * GOLDEN) & MASK)
    return ((word >> 9).to(dtype) + 0.5).mul(2.0**-23).view(shape)


def gumbel(
    shape: tuple[int, ...],
    *,
    key: int | Tensor,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> Tensor:
    """Return standard Gumbel noise, ``-log(-log(u))``, between -2.82 and 16.7.

    Args:
        shape: Shape of the result.
        key: As for :func:`uniform`.
        dtype: float32 or float64.
        device: Where the result lives.
    """
    return -torch.log(-torch.log(uniform(shape, key=key, dtype=dtype, device=device)))
