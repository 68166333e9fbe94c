"""Kernels for memory in which the units are planes of positions: contiguous convolutions.

A task is one block of one sample, or a run of ``STEP`` of its positions; every loop runs over
positions. The noise of an element is that of its index with the channels last, so that both
layouts of a tensor get the same.
"""

# numba infers the types of the compiled functions.
# mypy: disallow-untyped-defs=False

from __future__ import annotations

import numpy as np
from numba import carray, njit

from neuronym.lwta.kernels.job import (
    BLOCKS,
    CHANNELS,
    COMPETITORS,
    GRAD,
    GRAD_KL,
    INVERSE_TEMPERATURE,
    JOB,
    KL,
    OFFSET,
    OUT,
    PLANE,
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
    better,
    copy,
    exp,
    f4,
    fill,
    i4,
    log,
    pointer,
    take,
    u4,
)

# Units are read from a flat array: unit u of a task begins at ``start + u * stride`` and has
# ``count`` positions; the three numbers travel as ``span``. (A slice of a two-dimensional array
# would hide from the compiler that neighbours are neighbours.)


@njit(**CALL)
def unit(flat, span, u):
    """Return the positions of one unit."""
    start, stride, count = span
    first = start + u * stride
    return flat[first : first + count]


@njit(**CALL)
def keep_better(values, best, places, competitor):
    """Let one competitor challenge the best so far, at every position."""
    for p in range(values.size):
        value, champion, place = values[p], best[p], places[p]
        won = better(champion, value)
        best[p] = value if won else champion
        places[p] = i4(competitor) if won else place


@njit(**CALL)
def find_best(flat, span, competitors, best, places):
    """Find the largest competitor and its place, at every position."""
    copy(unit(flat, span, 0), best)
    fill(places, i4(0))
    for u in range(1, competitors):
        keep_better(unit(flat, span, u), best, places, u)


@njit(**CALL)
def pass_winners(values, out, span, competitors, places):
    """Copy the winners' values and zero the rest."""
    for u in range(competitors):
        source, target = unit(values, span, u), unit(out, span, u)
        for p in range(source.size):
            value = source[p]
            target[p] = value if places[p] == u else f4(0.0)


@njit(**CALL)
def softmax_sums(flat, span, competitors, state):
    """Sum of ``exp(z − max)`` and its mean of ``z − max``, at every position."""
    largest, sums, means, _ = state
    fill(sums, f4(0.0))
    fill(means, f4(0.0))
    for u in range(competitors):
        source = unit(flat, span, u)
        for p in range(source.size):
            shifted = source[p] - largest[p]
            shifted = LOWEST if shifted < LOWEST else shifted  # exp is 0; keeps 0 · ∞ away
            weight = exp(shifted)
            sums[p] += weight
            means[p] += weight * shifted
    for p in range(sums.size):
        means[p] = means[p] / sums[p]


@njit(**CALL)
def total_kl(sums, means, competitors):
    """Add up the KL from uniform: ``Σ_positions mean(z − max) − log Σ exp + log U``."""
    constant = log(f4(competitors))
    for p in range(sums.size):
        sums[p] = means[p] - log(sums[p]) + constant
    total = 0.0
    for p in range(sums.size):
        total += sums[p]
    return total


@njit(**CALL)
def weigh(noisy, pull, state, inverse):
    """One competitor's share of the softmax, left in ``noisy``, and of its sums."""
    largest, sums, means, _ = state
    for p in range(noisy.size):
        value, gain = (noisy[p] - largest[p]) * inverse, pull[p]
        weight = exp(value)
        weight = f4(0.0) if value < LOWEST else weight
        noisy[p] = weight
        sums[p] += weight
        means[p] += f4(0.0) if value < LOWEST else weight * gain  # the limit of exp(z) · z


@njit(**CALL)
def noisy_largest(z, span, noise, state, competitors):
    """Add the noise, and find its largest: the value of the winner that is known."""
    noisy_flat, noisy_span, index, channels, words = noise
    largest, _, _, places = state
    for u in range(competitors):
        noisy = unit(noisy_flat, noisy_span, u)
        add_noise(unit(z, span, u), noisy, u4(index + u), u4(channels), words)
        for p in range(noisy.size):
            value, before = noisy[p], largest[p]
            largest[p] = value if places[p] == u else before


@njit(**CALL)
def sample_gradient(z, grad, out, span, noise, state):
    """out += soft / τ · (a − Σ soft a) with a = grad · z."""
    (noisy_flat, noisy_span), pull, competitors, inverse = noise
    _, sums, means, _ = state
    fill(sums, f4(0.0))
    fill(means, f4(0.0))
    for u in range(competitors):
        values, upstream = unit(z, span, u), unit(grad, span, u)
        for p in range(values.size):
            pull[p] = upstream[p] * values[p]
        weigh(unit(noisy_flat, noisy_span, u), pull, state, inverse)
    for p in range(sums.size):
        scale = f4(1.0) / sums[p]
        means[p] = means[p] * scale
        sums[p] = scale * inverse
    for u in range(competitors):
        weights, target = unit(noisy_flat, noisy_span, u), unit(out, span, u)
        values, upstream = unit(z, span, u), unit(grad, span, u)
        for p in range(weights.size):
            weight = weights[p]
            share = weight * (sums[p] * (upstream[p] * values[p] - means[p]))
            weights[p] = f4(0.0) if weight == f4(0.0) else share
        for p in range(weights.size):
            target[p] += weights[p]


@njit(**CALL)
def kl_gradient(z, out, span, competitors, state, grad_kl):
    """out += grad_kl · q · (z − max − mean), with sums and means of softmax_sums."""
    largest, sums, means, _ = state
    for p in range(sums.size):
        sums[p] = grad_kl / sums[p]
    for u in range(competitors):
        source, target = unit(z, span, u), unit(out, span, u)
        for p in range(source.size):
            shifted = source[p] - largest[p]
            shifted = LOWEST if shifted < LOWEST else shifted
            target[p] += exp(shifted) * sums[p] * (shifted - means[p])


@njit(**CALL)
def task_place(job, task):
    """Return the task's first winner, its span of elements, and its first noise index."""
    plane, step, channels = job[PLANE], job[STEP], job[CHANNELS]
    runs = (plane + step - 1) // step
    block, run = task // runs, task % runs
    first = run * step
    count = min(step, plane - first)
    blocks = channels // job[COMPETITORS]
    sample, inside = block // blocks, block % blocks
    index = job[OFFSET] + (sample * plane + first) * channels + inside * job[COMPETITORS]
    span = block * job[COMPETITORS] * plane + first, plane, count
    return block * plane + first, span, index


@njit(**CALL)
def forward(raw):
    """Winners, output and (if asked) the KL of each task."""
    job = carray(raw, JOB, np.int64)
    competitors, channels, step = job[COMPETITORS], job[CHANNELS], job[STEP]
    words = u4(job[WORD_A]), u4(job[WORD_B])
    positions = job[BLOCKS] * job[PLANE]
    z = carray(pointer(job[Z]), positions * competitors, f4)
    out = carray(pointer(job[OUT]), positions * competitors, f4)
    winners_all = carray(pointer(job[WINNERS]), positions, np.uint8)
    kl = carray(pointer(job[KL]), job[TASKS], np.float64)
    work = np.empty(4 * step, f4)
    places_all = np.empty(step, i4)
    while True:
        task = take(raw)
        if task >= job[TASKS]:
            return
        first, span, index = task_place(job, task)
        count = span[2]
        best, sums = work[:count], work[step : step + count]
        means, noisy = work[2 * step : 2 * step + count], work[3 * step : 3 * step + count]
        places = places_all[:count]
        if job[SAMPLE]:
            fill(places, i4(0))
            for u in range(competitors):
                add_noise(unit(z, span, u), noisy, u4(index + u), u4(channels), words)
                if u == 0:
                    copy(noisy, best)
                else:
                    keep_better(noisy, best, places, u)
        else:
            find_best(z, span, competitors, best, places)
        pass_winners(z, out, span, competitors, places)
        winners = winners_all[first : first + count]
        for p in range(count):
            winners[p] = np.uint8(places[p])
        if job[KL]:
            if job[SAMPLE]:
                find_best(z, span, competitors, best, places)
            softmax_sums(z, span, competitors, (best, sums, means, places))
            kl[task] = total_kl(sums, means, competitors)


@njit(**CALL)
def backward(raw):
    """Gradient at z from those at the output and at the KL."""
    job = carray(raw, JOB, np.int64)
    floats = carray(raw, JOB, np.float64)
    competitors, channels, step = job[COMPETITORS], job[CHANNELS], job[STEP]
    words = u4(job[WORD_A]), u4(job[WORD_B])
    positions = job[BLOCKS] * job[PLANE]
    z = carray(pointer(job[Z]), positions * competitors, f4)
    out = carray(pointer(job[OUT]), positions * competitors, f4)
    grad = carray(pointer(job[GRAD]), positions * competitors, f4)
    winners_all = carray(pointer(job[WINNERS]), positions, np.uint8)
    inverse = f4(floats[INVERSE_TEMPERATURE])
    work, noisy = np.empty(4 * step, f4), np.empty(competitors * step, f4)
    places_all = np.empty(step, i4)
    while True:
        task = take(raw)
        if task >= job[TASKS]:
            return
        first, span, index = task_place(job, task)
        count = span[2]
        largest, sums = work[:count], work[step : step + count]
        means, pull = work[2 * step : 2 * step + count], work[3 * step : 3 * step + count]
        places = places_all[:count]
        state = largest, sums, means, places
        if job[GRAD]:
            winners = winners_all[first : first + count]
            for p in range(count):
                places[p] = i4(winners[p])
            pass_winners(grad, out, span, competitors, places)
            if job[SAMPLE]:
                flat = noisy, (0, step, count)
                noise = noisy, (0, step, count), index, channels, words
                noisy_largest(z, span, noise, state, competitors)
                sample_gradient(z, grad, out, span, (flat, pull, competitors, inverse), state)
        else:
            for u in range(competitors):
                fill(unit(out, span, u), f4(0.0))
        if job[KL]:
            find_best(z, span, competitors, largest, places)
            softmax_sums(z, span, competitors, state)
            kl_gradient(z, out, span, competitors, state, f4(floats[GRAD_KL]))
