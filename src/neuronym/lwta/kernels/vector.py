"""Vector building blocks of the kernels: log, exp, noise, and reductions over blocks.

The approximations of log and exp have a relative error below 1e-6 (tested). NaN takes part as in
``torch.argmax``: the first NaN of a block wins. Loops are written so that LLVM turns them into
vector code: no early exit, no branch on data, both sides of a choice loaded first.

A block-wise operation on neighbours in memory runs in rounds over the prime factors of U: each
round is one vector loop that joins pairs or triples.
"""

# numba infers the types of the compiled functions.
# mypy: disallow-untyped-defs=False

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import carray, njit, types
from numba.extending import intrinsic

from neuronym.lwta.kernels.job import ENTERED, JOB, THREADS

f4, i4, u4 = np.float32, np.int32, np.uint32
# Reassociation and the no-NaN assumption are left out: sums must not depend on the compiler's
# mood where a tie decides a winner, and NaN must show.
MATH = {"contract", "nsz", "arcp"}
CALL: dict[str, Any] = {
    "fastmath": MATH,
    "nogil": True,
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
}

HASH_1, HASH_2, HASH_3 = u4(0x9E3779B1), u4(0x85EBCA6B), u4(0xC2B2AE35)
LN2, LOG2_E = f4(0.6931471805599453), f4(1.4426950408889634)
LN2_HIGH, LN2_LOW = f4(0.693359375), f4(-2.12194440e-4)
SQRT_HALF_BITS = i4(0x3F3504F3)
ROUND = f4(12582912.0)  # 1.5 · 2**23: adding it leaves a rounded integer in the low bits
ROUND_BITS = i4(0x4B400000)
LOWEST = f4(-87.0)


@intrinsic
def bits_of(_: Any, value: Any) -> Any:
    """Return the bits of a float32 as int32."""

    def build(_c: Any, builder: Any, _s: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.IntType(32))

    return types.int32(types.float32), build


@intrinsic
def from_bits(_: Any, value: Any) -> Any:
    """Return the float32 that has these bits."""

    def build(_c: Any, builder: Any, _s: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.int32), build


@intrinsic
def pointer(_: Any, address: Any) -> Any:
    """Return an address as a pointer."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.voidptr(types.int64), build


@intrinsic
def take(_: Any, counter: Any) -> Any:
    """Add 1 to the int64 at a pointer, atomically, and return what it was."""

    def build(_c: Any, builder: Any, _s: Any, arguments: Any) -> Any:
        place = builder.bitcast(arguments[0], ir.IntType(64).as_pointer())
        return builder.atomic_rmw("add", place, ir.IntType(64)(1), "monotonic")

    return types.int64(types.voidptr), build


@intrinsic
def enter(_: Any, job: Any) -> Any:
    """Count one more thread into a job, atomically, and return how many came before."""

    def build(_c: Any, builder: Any, _s: Any, arguments: Any) -> Any:
        slots = builder.bitcast(arguments[0], ir.IntType(64).as_pointer())
        place = builder.gep(slots, [ir.IntType(64)(ENTERED)])
        return builder.atomic_rmw("add", place, ir.IntType(64)(1), "monotonic")

    return types.int64(types.voidptr), build


@njit(**CALL)
def admitted(raw):
    """Whether this thread is among those that are worth their while."""
    return enter(raw) < carray(raw, JOB, np.int64)[THREADS]


@njit(**CALL)
def log(x):
    """Natural logarithm of a positive, normal float32."""
    bits = bits_of(x)
    power = i4(i4(bits - SQRT_HALF_BITS) >> i4(23))
    f = from_bits(i4(bits - i4(power << i4(23)))) - f4(1.0)
    p = f4(-0.10191728174686432)
    p = p * f + f4(0.16024380922317505)
    p = p * f + f4(-0.17137128114700317)
    p = p * f + f4(0.19924503564834595)
    p = p * f + f4(-0.24983267486095428)
    p = p * f + f4(0.33334246277809143)
    return f4(power) * LN2 + (f + f * f * (p * f - f4(0.5)))


@njit(**CALL)
def exp(x):
    """Exponential of a float32 that is at most 0 (below -87 as of -87), or NaN."""
    x = LOWEST if x < LOWEST else x
    shifted = x * LOG2_E + ROUND
    power = shifted - ROUND
    r = (x - power * LN2_HIGH) - power * LN2_LOW
    p = f4(0.008312477730214596)
    p = p * r + f4(0.041890550404787064)
    p = p * r + f4(0.16667115688323975)
    p = p * r + f4(0.4999922811985016)
    scale = from_bits(i4(i4(i4(bits_of(shifted) - ROUND_BITS) + i4(127)) << i4(23)))
    return (r * r * p + r + f4(1.0)) * scale


@njit(**CALL)
def gumbel(index, word_a, word_b):
    """Gumbel noise of an element, as in ``noise.gumbel``."""
    word = u4(u4(index ^ word_a) * HASH_1)
    word = u4(word ^ (word >> u4(16)))
    word = u4(u4(word + word_b) * HASH_2)
    word = u4(word ^ (word >> u4(15)))
    word = u4(word * HASH_3)
    uniform = f4(i4(word >> u4(9))) * f4(2.0**-23) + f4(2.0**-24)
    return -log(-log(uniform))


@njit(**CALL)
def better(left, right):
    """Whether the right value beats the left: larger, or the first NaN."""
    return (not (right <= left)) & (left == left)


@njit(**CALL)
def fill(out, value):
    """Set every element."""
    for j in range(out.size):
        out[j] = value


@njit(**CALL)
def copy(source, out):
    """Copy every element of ``source`` to the start of ``out``."""
    for j in range(source.size):
        out[j] = source[j]


@njit(**CALL)
def add_noise(z, noisy, start, stride, words):
    """noisy[j] = z[j] + the Gumbel noise of element start + j · stride."""
    word_a, word_b = words
    for j in range(z.size):
        noisy[j] = z[j] + gumbel(u4(start + u4(u4(j) * stride)), word_a, word_b)


@njit(**CALL)
def pairs(values, places, out, out_places, count, group):
    """One round of the tournament among pairs."""
    for j in range(count):
        left, right = values[2 * j], values[2 * j + 1]
        place, other = places[2 * j], i4(places[2 * j + 1] + group)
        won = better(left, right)
        out[j] = right if won else left
        out_places[j] = other if won else place


@njit(**CALL)
def triples(values, places, out, out_places, count, group):
    """One round of the tournament among triples."""
    for j in range(count):
        best, right, last = values[3 * j], values[3 * j + 1], values[3 * j + 2]
        place = places[3 * j]
        other = i4(places[3 * j + 1] + group)
        third = i4(places[3 * j + 2] + i4(group + group))
        won = better(best, right)
        best = right if won else best
        place = other if won else place
        won = better(best, last)
        out[j] = last if won else best
        out_places[j] = third if won else place


@njit(**CALL)
def tuples(values, places, out, out_places, shape, group):
    """One round of the tournament among any number."""
    count, factor = shape
    for j in range(count):
        best, place = values[factor * j], places[factor * j]
        for i in range(1, factor):
            right = values[factor * j + i]
            if better(best, right):
                best, place = right, i4(places[factor * j + i] + i4(group * i))
        out[j], out_places[j] = best, place


@njit(**CALL)
def tournament(values, scratch, places, blocks, factors):
    """Find the largest of each block; leaves it in scratch[0] and its place in places[0].

    ``scratch`` is (2, elements), ``places`` (3, elements), and the last row of it holds zeros.
    """
    count = values.size
    group = i4(1)
    source, source_places = values, places[2]
    for i in range(factors.size):
        factor = factors[i]
        count = blocks
        for rest in factors[i + 1 :]:
            count *= rest
        row = (factors.size - 1 - i) & 1
        out, out_places = scratch[row], places[row]
        if factor == 2:
            pairs(source, source_places, out, out_places, count, group)
        elif factor == 3:
            triples(source, source_places, out, out_places, count, group)
        else:
            tuples(source, source_places, out, out_places, (count, factor), group)
        source, source_places = out, out_places
        group = i4(group * factor)


@njit(**CALL)
def sum_groups(source, out, count, factor):
    """out[j] = the sum of the j-th group of ``factor`` neighbours."""
    if factor == 2:
        for j in range(count):
            out[j] = source[2 * j] + source[2 * j + 1]
    elif factor == 3:
        for j in range(count):
            out[j] = source[3 * j] + source[3 * j + 1] + source[3 * j + 2]
    else:
        for j in range(count):
            total = source[factor * j]
            for i in range(1, factor):
                total += source[factor * j + i]
            out[j] = total


@njit(**CALL)
def sum_blocks(values, scratch, blocks, factors):
    """Add up each block; leaves the sums in scratch[0]."""
    source = values
    for i in range(factors.size):
        count = blocks
        for rest in factors[i + 1 :]:
            count *= rest
        out = scratch[(factors.size - 1 - i) & 1]
        sum_groups(source, out, count, factors[i])
        source = out


@njit(**CALL)
def repeat(source, out, count, factor):
    """Repeat each of ``count`` values ``factor`` times."""
    if factor == 2:
        for j in range(count):
            value = source[j]
            out[2 * j] = value
            out[2 * j + 1] = value
    elif factor == 3:
        for j in range(count):
            value = source[j]
            out[3 * j] = value
            out[3 * j + 1] = value
            out[3 * j + 2] = value
    else:
        for j in range(count):
            for i in range(factor):
                out[factor * j + i] = source[j]


@njit(**CALL)
def spread(values, scratch, blocks, factors):
    """Repeat each block's value for its competitors; leaves them in scratch[0]."""
    source, count = values, blocks
    for i in range(factors.size):
        out = scratch[(factors.size - 1 - i) & 1]
        repeat(source, out, count, factors[factors.size - 1 - i])
        count *= factors[factors.size - 1 - i]
        source = out
