"""Kernels for memory in which the competitors of a block are neighbours.

Linear and token layers, and convolutions in channels-last memory. The tensor is one flat run of
blocks; a task is a run of ``STEP`` blocks, small enough for the first-level cache.
"""

# numba infers the types of the compiled functions.
# mypy: disallow-untyped-defs=False

from __future__ import annotations

import numpy as np
from numba import carray, njit

from neuronym.lwta.kernels.job import (
    BLOCKS,
    COMPETITORS,
    FACTORS,
    GRAD,
    GRAD_KL,
    INVERSE_TEMPERATURE,
    JOB,
    KL,
    OFFSET,
    OUT,
    ROUNDS,
    SAMPLE,
    STEP,
    TASKS,
    WINNERS,
    WORD_A,
    WORD_B,
    Z,
)
from neuronym.lwta.kernels.vector import (
    CALL,
    LOWEST,
    add_noise,
    copy,
    exp,
    f4,
    fill,
    i4,
    log,
    pointer,
    spread,
    sum_blocks,
    take,
    tournament,
    u4,
)


@njit(**CALL)
def shifted_rows(z, work, places, blocks, factors):
    """Prepare the softmax of rows.

    Leaves ``z − max`` in work[2], its exponential in work[3], and per block the exponentials'
    sum in work[5] and their mean of ``z − max`` in work[6]; work[0], [1] and [4] are scratch.
    """
    scratch, shifted, weights, product = work[0:2], work[2], work[3], work[4]
    sums, means = work[5], work[6]
    tournament(z, scratch, places, blocks, factors)
    copy(scratch[0, :blocks], sums)
    spread(sums, scratch, blocks, factors)
    largest = scratch[0]
    for j in range(z.size):
        value = z[j] - largest[j]
        shifted[j] = LOWEST if value < LOWEST else value  # exp is 0; keeps 0 · ∞ away
        weights[j] = exp(shifted[j])
        product[j] = weights[j] * shifted[j]
    sum_blocks(weights, scratch, blocks, factors)
    copy(scratch[0, :blocks], sums)
    sum_blocks(product, scratch, blocks, factors)
    for b in range(blocks):
        means[b] = scratch[0, b] / sums[b]


@njit(**CALL)
def total_kl(sums, means, spare, competitors):
    """Add up the KL of blocks from uniform: ``Σ_blocks mean(z − max) − log Σ exp + log U``."""
    constant = log(f4(competitors))
    for b in range(sums.size):
        spare[b] = means[b] - log(sums[b]) + constant
    total = 0.0
    for b in range(sums.size):
        total += spare[b]
    return total


@njit(**CALL)
def pass_winners(values, out, winners):
    """Copy the winners' values and zero the rest."""
    fill(out, f4(0.0))
    competitors = values.size // winners.size
    for b in range(winners.size):
        place = b * competitors + np.intp(winners[b])
        out[place] = values[place]


@njit(**CALL)
def forward(raw):
    """Winners, output and (if asked) the KL of each task; rows layout."""
    job = carray(raw, JOB, np.int64)
    competitors, step = job[COMPETITORS], job[STEP]
    factors = job[FACTORS : FACTORS + job[ROUNDS]]
    words = u4(job[WORD_A]), u4(job[WORD_B])
    z_all = carray(pointer(job[Z]), job[BLOCKS] * competitors, f4)
    out_all = carray(pointer(job[OUT]), job[BLOCKS] * competitors, f4)
    winners_all = carray(pointer(job[WINNERS]), job[BLOCKS], np.uint8)
    kl = carray(pointer(job[KL]), job[TASKS], np.float64)
    work = np.empty((7, step * competitors), f4)
    places = np.empty((3, step * competitors), i4)
    fill(places[2], i4(0))
    while True:
        task = take(raw)
        if task >= job[TASKS]:
            return
        first = task * step
        blocks = min(step, job[BLOCKS] - first)
        start, stop = first * competitors, (first + blocks) * competitors
        z, winners = z_all[start:stop], winners_all[first : first + blocks]
        if job[SAMPLE]:
            noisy = work[2, : stop - start]
            add_noise(z, noisy, u4(job[OFFSET] + start), u4(1), words)
            tournament(noisy, work[0:2], places, blocks, factors)
        else:
            tournament(z, work[0:2], places, blocks, factors)
        for b in range(blocks):
            winners[b] = np.uint8(places[0, b])
        pass_winners(z, out_all[start:stop], winners)
        if job[KL]:
            shifted_rows(z, work, places, blocks, factors)
            kl[task] = total_kl(work[5, :blocks], work[6, :blocks], work[4], competitors)


@njit(**CALL)
def row_sample_gradient(z, grad, out, winners, work, factors, inverse):
    """out += soft / τ · (a − Σ soft a) with a = grad · z and the noisy z in work[2]."""
    scratch, noisy, pull, weights = work[0:2], work[2, : z.size], work[3], work[4]
    means, scales = work[5], work[6]
    blocks = winners.size
    competitors = z.size // blocks
    for b in range(blocks):
        means[b] = noisy[b * competitors + np.intp(winners[b])]
    spread(means, scratch, blocks, factors)
    repeated = scratch[0]
    for j in range(z.size):
        value = (noisy[j] - repeated[j]) * inverse
        weights[j] = exp(value)
        gain = grad[j] * z[j]
        pull[j] = f4(0.0) if value < LOWEST else gain  # the limit of exp(z) · z
        noisy[j] = weights[j] * pull[j]
    sum_blocks(weights, scratch, blocks, factors)
    for b in range(blocks):
        scales[b] = f4(1.0) / repeated[b]
    sum_blocks(noisy, scratch, blocks, factors)
    for b in range(blocks):
        means[b] = repeated[b] * scales[b]
        scales[b] = scales[b] * inverse
    spread(means, scratch, blocks, factors)
    for j in range(z.size):
        weights[j] *= pull[j] - repeated[j]
    spread(scales, scratch, blocks, factors)
    for j in range(z.size):
        out[j] += weights[j] * repeated[j]


@njit(**CALL)
def row_kl_gradient(out, work, blocks, factors, grad_kl):
    """out += grad_kl · q · (z − max − mean), from what shifted_rows left in work."""
    scratch, shifted, weights = work[0:2], work[2], work[3]
    sums, means = work[5], work[6]
    spread(means, scratch, blocks, factors)
    repeated = scratch[0]
    for j in range(out.size):
        weights[j] *= shifted[j] - repeated[j]
    for b in range(blocks):
        sums[b] = grad_kl / sums[b]
    spread(sums, scratch, blocks, factors)
    for j in range(out.size):
        out[j] += weights[j] * repeated[j]


@njit(**CALL)
def backward(raw):
    """Gradient at z from those at the output and at the KL; rows layout."""
    job = carray(raw, JOB, np.int64)
    floats = carray(raw, JOB, np.float64)
    competitors, step = job[COMPETITORS], job[STEP]
    factors = job[FACTORS : FACTORS + job[ROUNDS]]
    words = u4(job[WORD_A]), u4(job[WORD_B])
    elements = job[BLOCKS] * competitors
    z_all = carray(pointer(job[Z]), elements, f4)
    out_all = carray(pointer(job[OUT]), elements, f4)
    grad_all = carray(pointer(job[GRAD]), elements, f4)
    winners_all = carray(pointer(job[WINNERS]), job[BLOCKS], np.uint8)
    work = np.empty((7, step * competitors), f4)
    places = np.empty((3, step * competitors), i4)
    fill(places[2], i4(0))
    while True:
        task = take(raw)
        if task >= job[TASKS]:
            return
        first = task * step
        blocks = min(step, job[BLOCKS] - first)
        start, stop = first * competitors, (first + blocks) * competitors
        z, out = z_all[start:stop], out_all[start:stop]
        if job[GRAD]:
            grad, winners = grad_all[start:stop], winners_all[first : first + blocks]
            pass_winners(grad, out, winners)
            if job[SAMPLE]:
                add_noise(z, work[2], u4(job[OFFSET] + start), u4(1), words)
                inverse = f4(floats[INVERSE_TEMPERATURE])
                row_sample_gradient(z, grad, out, winners, work, factors, inverse)
        else:
            fill(out, f4(0.0))
        if job[KL]:
            shifted_rows(z, work, places, blocks, factors)
            row_kl_gradient(out, work, blocks, factors, f4(floats[GRAD_KL]))
