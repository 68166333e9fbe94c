"""Which attributes a scene has: drawn independently and uniformly from its seed and index."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neuronym.errors import InputError, unknown
from neuronym.probes.scenes.attributes import ATTRIBUTES, GROUPS, AttributeTable

__all__ = ["Exclude", "Scene", "check_choices", "check_exclude", "sample", "table"]

_TRIES = 1000
_ATTRIBUTE_STREAM = 0


@dataclass(frozen=True)
class Scene:
    """What one scene shows, and the numbers that every detail of it is drawn from.

    Attributes:
        seed, index: Of its set, and its place in the set.
        values: One value per group, in the order of :data:`GROUPS`.
    """

    seed: int
    index: int
    values: tuple[str, ...]

    def __getitem__(self, group: str) -> str:
        if group not in GROUPS:
            raise unknown("attribute group", group, tuple(GROUPS))
        return self.values[tuple(GROUPS).index(group)]

    @property
    def attributes(self) -> tuple[str, ...]:
        """Its attributes as ``"group:value"``, in the order of the groups."""
        return tuple(f"{group}:{value}" for group, value in zip(GROUPS, self.values, strict=True))


Exclude = Callable[[Scene], bool] | Collection[Sequence[str]]
"""A predicate, or combinations such as ``[("colour:red", "shape:circle")]``."""


def check_choices(choices: Mapping[str, Sequence[str]] | None) -> dict[str, tuple[str, ...]]:
    """Return the values that each group may take; groups that are not named take all of theirs."""
    allowed = dict(GROUPS)
    for group, values in (choices or {}).items():
        if group not in GROUPS:
            raise unknown("attribute group", group, tuple(GROUPS))
        if isinstance(values, str) or not values:
            raise InputError(f"choices of {group!r} must be a list of values, not {values!r}")
        for value in values:
            if value not in GROUPS[group]:
                raise unknown(f"value of {group!r}", value, GROUPS[group])
        allowed[group] = tuple(value for value in GROUPS[group] if value in values)
    return allowed


def check_exclude(exclude: Exclude | None) -> Callable[[Scene], bool]:
    """Return a predicate that is true for the scenes that must not be drawn."""
    if exclude is None:
        return _nothing
    if callable(exclude):
        return exclude
    combinations = []
    for combination in exclude:
        if isinstance(combination, str):
            raise InputError(
                f"exclude holds the text {combination!r}; give combinations such as "
                "[('colour:red', 'shape:circle')]"
            )
        for attribute in combination:
            if attribute not in ATTRIBUTES:
                raise unknown("attribute", attribute, ATTRIBUTES)
        combinations.append(frozenset(combination))
    return lambda scene: any(held <= frozenset(scene.attributes) for held in combinations)


def _nothing(scene: Scene) -> bool:
    return False


def sample(
    seed: int,
    index: int,
    *,
    choices: Mapping[str, tuple[str, ...]] = GROUPS,
    excluded: Callable[[Scene], bool] = _nothing,
) -> Scene:
    """Draw the attributes of one scene; they depend on nothing but the arguments.

    Args:
        seed: Of the set, 0 or larger.
        index: Place in the set, 0 or larger.
        choices: Values of every group, in the order of :data:`GROUPS`.
        excluded: True for scenes that must not be drawn; another is drawn in their place.

    Raises:
        InputError: A thousand scenes in a row were excluded.
    """
    entropy = np.random.SeedSequence((seed, index, _ATTRIBUTE_STREAM))
    rng = np.random.default_rng(entropy)
    groups = tuple(choices.values())
    for _ in range(_TRIES):
        draws = rng.random(len(groups)).tolist()
        values = (group[int(x * len(group))] for group, x in zip(groups, draws, strict=True))
        scene = Scene(seed, index, tuple(values))
        if not excluded(scene):
            return scene
    raise InputError(f"exclude leaves no scene: {_TRIES} draws in a row were excluded")


def table(scenes: Sequence[Scene]) -> AttributeTable:
    """Return the exact attribute labels of scenes, ``(scenes, attributes)``."""
    columns = {name: column for column, name in enumerate(ATTRIBUTES)}
    values: npt.NDArray[np.bool_] = np.zeros((len(scenes), len(ATTRIBUTES)), dtype=np.bool_)
    for row, scene in enumerate(scenes):
        values[row, [columns[name] for name in scene.attributes]] = True
    groups = tuple(name.split(":")[0] for name in ATTRIBUTES)
    return AttributeTable(ATTRIBUTES, groups, values)
