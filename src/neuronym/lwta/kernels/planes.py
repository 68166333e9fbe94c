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


@njit(**CALL)
def keep_better(values, best, places, competitor):
    """Let one competitor challenge the best so far, at every position."""
    for p in range(values.size):
        value, champion, place = values[p], best[p], places[p]
        won = better(champion, value)
        best[p] = value if won else champion
        places[p] = i4(competitor) if won else place


@njit(**CALL)
def find_best(z, best, places):
    """Find the largest of (competitors, positions) and its place, at every position."""
    copy(z[0], best)
    fill(places, i4(0))
    for u in range(1, z.shape[0]):
        keep_better(z[u], best, places, u)


@njit(**CALL)
def pass_winners(values, out, places):
    """Copy the winners' values and zero the rest."""
    for u in range(values.shape[0]):
        source, target = values[u], out[u]
        for p in range(source.size):
            value = source[p]
            target[p] = value if places[p] == u else f4(0.0)


@njit(**CALL)
def noisy_planes(z, noisy, start, channels, words):
    """Add noise to (competitors, positions)."""
    for u in range(z.shape[0]):
        add_noise(z[u], noisy[u], u4(start + u), u4(channels), words)


@njit(**CALL)
def softmax_sums(z, largest, sums, means):
    """Sum of ``exp(z − max)`` and its mean of ``z − max``, at every position."""
    fill(sums, f4(0.0))
    fill(means, f4(0.0))
    for u in range(z.shape[0]):
        source = z[u]
        for p in range(source.size):
            shifted = source[p] - largest[p]
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
def sample_gradient(z, grad, out, noisy, state, inverse):
    """out += soft / τ · (a − Σ soft a) with a = grad · z; ``noisy`` is overwritten."""
    largest, sums, means, places = state
    for u in range(z.shape[0]):
        source = noisy[u]
        for p in range(source.size):
            value = source[p]
            largest[p] = value if places[p] == u else largest[p]
    fill(sums, f4(0.0))
    fill(means, f4(0.0))
    for u in range(z.shape[0]):
        source, values, upstream = noisy[u], z[u], grad[u]
        for p in range(source.size):
            weight = exp((source[p] - largest[p]) * inverse)
            source[p] = weight
            sums[p] += weight
            means[p] += weight * upstream[p] * values[p]
    for p in range(sums.size):
        scale = f4(1.0) / sums[p]
        means[p] = means[p] * scale
        sums[p] = scale * inverse
    for u in range(z.shape[0]):
        weights, values, upstream, target = noisy[u], z[u], grad[u], out[u]
        for p in range(weights.size):
            pull = upstream[p] * values[p] - means[p]
            target[p] += weights[p] * sums[p] * pull


@njit(**CALL)
def kl_gradient(z, out, state, grad_kl):
    """out += grad_kl · q · (z − max − mean), with sums and means of softmax_sums."""
    largest, sums, means, _ = state
    for p in range(sums.size):
        sums[p] = grad_kl / sums[p]
        means[p] = means[p] + largest[p]
    for u in range(z.shape[0]):
        source, target = z[u], out[u]
        for p in range(source.size):
            value = source[p]
            target[p] += exp(value - largest[p]) * sums[p] * (value - means[p])


@njit(**CALL)
def place_of(job, task):
    """Return (block among all samples, first position, positions, index of the first element)."""
    runs = (job[PLANE] + job[STEP] - 1) // job[STEP]
    block, run = task // runs, task % runs
    first = run * job[STEP]
    count = min(job[STEP], job[PLANE] - first)
    blocks = job[CHANNELS] // job[COMPETITORS]
    sample, inside = block // blocks, block % blocks
    position = sample * job[PLANE] + first
    return block, first, count, position * job[CHANNELS] + inside * job[COMPETITORS]


@njit(**CALL)
def forward(raw):
    """Winners, output and (if asked) the KL of each task."""
    job = carray(raw, JOB, np.int64)
    competitors, channels, step = job[COMPETITORS], job[CHANNELS], job[STEP]
    words = u4(job[WORD_A]), u4(job[WORD_B])
    shape = job[BLOCKS], competitors, job[PLANE]
    z_all = carray(pointer(job[Z]), shape, f4)
    out_all = carray(pointer(job[OUT]), shape, f4)
    winners_all = carray(pointer(job[WINNERS]), (job[BLOCKS], job[PLANE]), np.uint8)
    kl = carray(pointer(job[KL]), job[TASKS], np.float64)
    noisy_all = np.empty((competitors, step), f4)
    work = np.empty((3, step), f4)
    places_all = np.empty(step, i4)
    while True:
        task = take(raw)
        if task >= job[TASKS]:
            return
        block, first, count, start = place_of(job, task)
        z = z_all[block, :, first : first + count]
        best, sums, means = work[0, :count], work[1, :count], work[2, :count]
        places = places_all[:count]
        if job[SAMPLE]:
            noisy = noisy_all[:, :count]
            noisy_planes(z, noisy, start, channels, words)
            find_best(noisy, best, places)
        else:
            find_best(z, best, places)
        pass_winners(z, out_all[block, :, first : first + count], places)
        winners = winners_all[block, first : first + count]
        for p in range(count):
            winners[p] = np.uint8(places[p])
        if job[KL]:
            if job[SAMPLE]:
                find_best(z, best, places)
            softmax_sums(z, best, sums, means)
            kl[task] = total_kl(sums, means, competitors)


@njit(**CALL)
def backward(raw):
    """Gradient at z from those at the output and at the KL."""
    job = carray(raw, JOB, np.int64)
    floats = carray(raw, JOB, np.float64)
    competitors, channels, step = job[COMPETITORS], job[CHANNELS], job[STEP]
    words = u4(job[WORD_A]), u4(job[WORD_B])
    shape = job[BLOCKS], competitors, job[PLANE]
    z_all = carray(pointer(job[Z]), shape, f4)
    out_all = carray(pointer(job[OUT]), shape, f4)
    grad_all = carray(pointer(job[GRAD]), shape, f4)
    winners_all = carray(pointer(job[WINNERS]), (job[BLOCKS], job[PLANE]), np.uint8)
    noisy_all = np.empty((competitors, step), f4)
    work = np.empty((3, step), f4)
    places_all = np.empty(step, i4)
    while True:
        task = take(raw)
        if task >= job[TASKS]:
            return
        block, first, count, start = place_of(job, task)
        z = z_all[block, :, first : first + count]
        out = out_all[block, :, first : first + count]
        state = work[0, :count], work[1, :count], work[2, :count], places_all[:count]
        if job[GRAD]:
            grad = grad_all[block, :, first : first + count]
            winners, places = winners_all[block, first : first + count], state[3]
            for p in range(count):
                places[p] = i4(winners[p])
            pass_winners(grad, out, places)
            if job[SAMPLE]:
                noisy = noisy_all[:, :count]
                noisy_planes(z, noisy, start, channels, words)
                inverse = f4(floats[INVERSE_TEMPERATURE])
                sample_gradient(z, grad, out, noisy, state, inverse)
        else:
            for u in range(competitors):
                fill(out[u], f4(0.0))
        if job[KL]:
            find_best(z, state[0], state[3])
            softmax_sums(z, state[0], state[1], state[2])
            kl_gradient(z, out, state, f4(floats[GRAD_KL]))
