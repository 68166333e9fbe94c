"""The built-in probe set: rendered scenes with exact attribute labels."""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from neuronym.errors import InputError, unknown
from neuronym.files import fingerprint
from neuronym.probes.scenes.attributes import GROUPS, AttributeTable
from neuronym.probes.scenes.captions import caption
from neuronym.probes.scenes.render import Rendered, check_size, render_scene
from neuronym.probes.scenes.sampling import (
    Exclude,
    Scene,
    check_choices,
    check_exclude,
    sample,
    table,
)

__all__ = ["DEFAULT_SCENES", "DEFAULT_TASK", "SceneSet", "render_many"]

DEFAULT_SCENES = 2000
DEFAULT_TASK = "shape"
VERSION = 1
"""Raised whenever the same seed draws other pixels, so that caches notice."""

Task = str | tuple[str, ...]


class SceneSet:
    """Rendered scenes: any of them can be drawn on its own, and its labels are exact.

    Every group's value is drawn independently and uniformly, so that chance is known. The label
    of an image is derived from its attributes: by default its shape.
    """

    def __init__(
        self,
        n: int = DEFAULT_SCENES,
        *,
        seed: int = 0,
        size: int = 128,
        task: Task = DEFAULT_TASK,
        exclude: Exclude | None = None,
        choices: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """Describe ``n`` scenes; nothing is drawn yet.

        Args:
            n: Number of scenes, at least 1.
            seed: 0 or larger; another seed gives other scenes.
            size: Pixels a side, 32 to 1024.
            task: What the label is: a group such as ``"shape"``, or several such as
                ``("colour", "shape")`` for classes such as "red circle".
            exclude: Combinations of attributes that never occur, e.g.
                ``[("colour:red", "shape:circle")]``, or a predicate on a :class:`Scene`.
            choices: Values that a group may take, e.g. ``{"count": ["one"]}``.

        Raises:
            InputError: A number is out of range, or ``exclude`` leaves nothing.
            UnknownNameError: A group, value or attribute is not known.
        """
        if n < 1:
            raise InputError(f"scenes need n of at least 1, not {n}")
        if seed < 0:
            raise InputError(f"scenes need a seed of at least 0, not {seed}")
        self.seed = seed
        self.size = check_size(size)
        self.choices: Mapping[str, tuple[str, ...]] = check_choices(choices)
        excluded = check_exclude(exclude)
        self.scenes: tuple[Scene, ...] = tuple(
            sample(seed, index, choices=self.choices, excluded=excluded) for index in range(n)
        )
        self.task = _check_task(task)
        self._pixels: npt.NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        return len(self.scenes)

    @property
    def name(self) -> str:
        """``"scenes:N:SEED"``, and ``":TASK"`` where the label is not the shape."""
        labels = "" if self.task == (DEFAULT_TASK,) else f":{'+'.join(self.task)}"
        return f"scenes:{len(self)}:{self.seed}{labels}"

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """``"scene-SEED-INDEX"`` of every scene."""
        return tuple(f"scene-{scene.seed}-{scene.index}" for scene in self.scenes)

    @cached_property
    def attributes(self) -> AttributeTable:
        """Exact labels of every attribute."""
        return table(self.scenes)

    @cached_property
    def captions(self) -> tuple[str, ...]:
        """A description of every scene, e.g. ``"two large red dotted rings on sand"``."""
        return tuple(caption(scene) for scene in self.scenes)

    @cached_property
    def label_names(self) -> tuple[str, ...]:
        """Every class of the task, also those that ``exclude`` leaves empty."""
        values = (self.choices[group] for group in self.task)
        return tuple(" ".join(words) for words in itertools.product(*values))

    @cached_property
    def labels(self) -> npt.NDArray[np.int64]:
        """``(scenes,)`` class index of the task."""
        index = {name: number for number, name in enumerate(self.label_names)}
        names = (" ".join(scene[group] for group in self.task) for scene in self.scenes)
        return np.array([index[name] for name in names], dtype=np.int64)

    @cached_property
    def fingerprint(self) -> str:
        """Of what determines the pixels: version, seed, size and attributes."""
        bits = np.packbits(self.attributes.values).tobytes()
        return fingerprint("scenes", VERSION, self.seed, self.size, len(self), bits)

    def with_labels(self, task: Task) -> SceneSet:
        """Return the same scenes with the labels of another task."""
        other = self._copy()
        other.task = _check_task(task)
        return other

    def rendered(self, *, workers: int | None = None) -> SceneSet:
        """Return the same scenes, drawn at once in processes and held in memory.

        They take ``n · size² · 3`` bytes. Use it where every image is read more than once.

        Args:
            workers: Processes; ``None`` takes one per processor.
        """
        other = self._copy()
        parts = list(render_many(self.scenes, size=self.size, workers=workers))
        other._pixels = np.concatenate(parts)
        return other

    @property
    def is_rendered(self) -> bool:
        """Whether the images are held in memory."""
        return self._pixels is not None

    def _copy(self) -> SceneSet:
        other = SceneSet.__new__(SceneSet)
        other.seed, other.size, other.choices = self.seed, self.size, self.choices
        other.scenes, other.task, other._pixels = self.scenes, self.task, self._pixels
        return other

    def render(self, index: int) -> Rendered:
        """Draw one scene together with the mask of its objects."""
        return render_scene(self.scenes[index], size=self.size)

    def image(self, index: int) -> Image.Image:
        """Draw one scene, RGB, ``size`` pixels a side."""
        if self._pixels is not None:
            return Image.fromarray(self._pixels[index])
        return self.render(index).image


def _check_task(task: Task) -> tuple[str, ...]:
    groups = (task,) if isinstance(task, str) else tuple(task)
    for group in groups:
        if group not in GROUPS:
            raise unknown("attribute group", group, tuple(GROUPS))
    if not groups or len(set(groups)) != len(groups):
        raise InputError(f"a task names one or more different groups, not {task!r}")
    return groups


def render_many(
    scenes: Sequence[Scene], *, size: int = 128, workers: int | None = None, chunk: int = 64
) -> Iterator[npt.NDArray[np.uint8]]:
    """Draw many scenes in processes, in order.

    Args:
        scenes: What to draw, e.g. ``SceneSet(8000).scenes``.
        size: Pixels a side.
        workers: Processes; ``None`` takes one per processor, and 1 draws in this process.
        chunk: Scenes per task.

    Yields:
        One ``(scenes, size, size, 3)`` uint8 array per chunk, in the order of ``scenes``.
    """
    check_size(size)
    workers = workers or os.cpu_count() or 1
    starts = range(0, len(scenes), chunk)
    jobs = (tuple(scenes[start : start + chunk]) for start in starts)
    if workers == 1 or len(starts) < 2:
        yield from (_render_chunk(job, size) for job in jobs)
        return
    yield from _in_processes(jobs, size, workers=workers)


def _in_processes(
    jobs: Iterable[tuple[Scene, ...]], size: int, *, workers: int
) -> Iterator[npt.NDArray[np.uint8]]:
    # Loky's processes do not import the caller's main module, as those of the standard library
    # do, so that a script needs no guard. They are reused, and end when they are idle.
    from joblib.externals.loky import get_reusable_executor

    pool = get_reusable_executor(max_workers=workers, timeout=30)
    waiting: deque[Any] = deque()
    try:
        for job in jobs:
            waiting.append(pool.submit(_render_chunk, job, size))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def _render_chunk(scenes: Sequence[Scene], size: int) -> npt.NDArray[np.uint8]:
    return np.stack([np.asarray(render_scene(scene, size=size).image) for scene in scenes])
