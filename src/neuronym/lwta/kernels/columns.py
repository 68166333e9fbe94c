"""Kernels for a linear map of masked activations that reads only the winners' columns.

A task is a run of ``STEP`` positions. The output of one position stays in the first-level cache
while the columns of its winners, which are rows of the transposed weight, are added up four at a
time, always in the order of the blocks: the result depends neither on the task's size nor on the
number of threads.
"""

# numba infers the types of the compiled functions.
# mypy: disallow-untyped-defs=False

from __future__ import annotations

import numpy as np
from numba import carray, njit

from neuronym.lwta.kernels.job import (
    BIAS,
    BLOCKS,
    CHANNELS,
    COLUMNS,
    COMPETITORS,
    JOB,
    OUT,
    PLANE,
    STEP,
    TASKS,
    WIDTH,
    WINNERS,
    Z,
)
from neuronym.lwta.kernels.vector import CALL, copy, f4, fill, pointer, take

TURN = 64  # positions of a plane that are turned into planes of the output at once
GAP = 16  # floats between them, so that they do not fall into the same sets of the cache


@njit(**CALL)
def add_four(out, values, columns, place):
    """out += four values times four columns."""
    a, b, c, d = values[0], values[1], values[2], values[3]
    width = out.size
    first = columns[place[0] : place[0] + width]
    second = columns[place[1] : place[1] + width]
    third = columns[place[2] : place[2] + width]
    fourth = columns[place[3] : place[3] + width]
    for j in range(width):
        out[j] += (a * first[j] + b * second[j]) + (c * third[j] + d * fourth[j])


@njit(**CALL)
def add_position(out, values, columns, place):
    """out += Σ_b value of block b times its winner's column."""
    width, blocks = out.size, values.size
    whole = blocks // 4 * 4
    for b in range(0, whole, 4):
        add_four(out, values[b : b + 4], columns, place[b : b + 4])
    for b in range(whole, blocks):
        value = values[b]
        column = columns[place[b] : place[b] + width]
        for j in range(width):
            out[j] += value * column[j]


@njit(**CALL)
def start(out, bias):
    """Set the output of one position to the bias, or to zero where there is none."""
    if bias.size:
        copy(bias, out)
    else:
        fill(out, f4(0.0))


@njit(**CALL)
def turn(spare, out, first, count, plane):
    """Write ``count`` positions of ``spare`` as planes of the output, from ``first`` on."""
    width = spare.shape[1] - GAP
    for j in range(width):
        target = out[first + j * plane : first + j * plane + count]
        for p in range(count):
            target[p] = spare[p, j]


@njit(**CALL)
def planes(raw):
    """Product where the units are planes of positions; so is its output."""
    job = carray(raw, JOB, np.int64)
    competitors, blocks, channels = job[COMPETITORS], job[BLOCKS], job[CHANNELS]
    plane, step, width = job[PLANE], job[STEP], job[WIDTH]
    runs = (plane + step - 1) // step
    samples = job[TASKS] // runs
    y_all = carray(pointer(job[Z]), samples * plane * channels, f4)
    winners = carray(pointer(job[WINNERS]), samples * plane * blocks, np.uint8)
    columns = carray(pointer(job[COLUMNS]), channels * width, f4)
    out = carray(pointer(job[OUT]), samples * plane * width, f4)
    bias = carray(pointer(job[BIAS]), width if job[BIAS] else 0, f4)
    values, place = np.empty((TURN, blocks), f4), np.empty((TURN, blocks), np.int64)
    spare = np.empty((TURN, width + GAP), f4)
    while True:
        task = take(raw)
        if task >= job[TASKS]:
            return
        sample, run = task // runs, task % runs
        y = y_all[sample * channels * plane : (sample + 1) * channels * plane]
        for first in range(run * step, min((run + 1) * step, plane), TURN):
            count = min(TURN, min((run + 1) * step, plane) - first)
            for b in range(blocks):
                begin = (sample * blocks + b) * plane + first
                won = winners[begin : begin + count]
                for p in range(count):
                    unit = b * competitors + np.intp(won[p])
                    values[p, b] = y[unit * plane + first + p]
                    place[p, b] = unit * width
            for p in range(count):
                start(spare[p, :width], bias)
                add_position(spare[p, :width], values[p], columns, place[p])
            turn(spare, out, sample * width * plane + first, count, plane)
