"""The layout of a job: what a kernel works on, as an array of int64.

Floats are stored as float64 in the same slots, from ``FLOATS`` on. Pointers are addresses; 0
stands for "not wanted".
"""

from __future__ import annotations

COUNTER = 0  # next task, counted up atomically
TASKS = 1
Z = 2  # activations (products: masked ones)
OUT = 3  # output, or gradient at z
WINNERS = 4  # uint8
KL = 5  # float64, one per task (in a backward kernel: whether there is a gradient at the KL)
GRAD = 6  # gradient at the output
WORD_A, WORD_B = 7, 8  # the key's words
COMPETITORS = 9
BLOCKS = 10  # rows: blocks in all; planes: blocks times samples; products: blocks of a position
PLANE = 11  # planes: positions of a plane
STEP = 12  # rows: blocks of a task; planes and products: positions of a task
CHANNELS = 13
SAMPLE = 14  # whether there is noise
ROUNDS = 15  # number of prime factors of U
FACTORS = 16  # up to 8 of them, as U is at most 256
FLOATS = 24
INVERSE_TEMPERATURE = 24
GRAD_KL = 25
OFFSET = 26  # noise index of the first element
COLUMNS = 27  # products with winners: the transposed weight, (channels, WIDTH)
BIAS = 28  # of WIDTH numbers, or 0
WIDTH = 29  # units that a product writes
ENTERED = 30  # threads that have come so far, counted up atomically
THREADS = 31  # how many of them work; the others leave at once
JOB = 32
