"""How an audit is done: one frozen dataclass."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from neuronym.errors import InputError, unknown
from neuronym.false_discovery import FDR_METHODS

__all__ = ["REMOVALS", "AuditOptions"]

REMOVALS = ("hold", "hand_over", "silence")
TARGETS = ("predicted", "label")


@dataclass(frozen=True)
class AuditOptions:
    """How an audit is done.

    Attributes:
        targets: ``"predicted"``: an image belongs to the class that the model gives it;
            ``"label"``: to its true class, whose logit is then explained.
        classes: Names or indices of the classes to judge; all by default.
        match_level: False-discovery rate over units at which a unit may match a concern.
        specific: Share of other words that may fit a matching unit at least as well.
        chance: Share of texts without a meaning that may do as well as a concern that matches.
        level: False-discovery rate over all findings.
        fdr: ``"bh"`` or ``"by"``; see :func:`neuronym.false_discovery.q_values`.
        draws: Random sets of units behind a p-value, which is at least 1 / (1 + draws). Where few
            units match there are not so many different sets, and the smallest p-value is larger,
            whatever ``draws`` is: 1 / (units that fire as often) for one unit.
        bootstrap: Draws behind an interval.
        min_images: A class, or a group of its images, with fewer is not judged.
        present, absent: The images that show a concern are the ``present`` share with the
            highest scores, those that do not the ``absent`` share with the lowest.
        groups: Concern → ids of the images that show it, in place of scores; all others do not.
        action: How units are removed: ``"hold"`` at a constant, so that an image says nothing
            about the concern; ``"hand_over"`` to the runner-up of the block; or ``"silence"``.
        balance: Where units are held: between their mean on images without the concern (0) and
            with it (1).
        removals: Most concerns that are removed, those with the best significant findings first.
        top_images: Images that each finding shows.
        batch_size: Images per forward pass.
        workers: Threads that decode; ``None`` takes one per processor, at most 4.
        seed: Of random sets and of the bootstrap.
        progress: Called with ``(done, total, note)``.
    """

    targets: str = "predicted"
    classes: tuple[str | int, ...] = ()
    match_level: float = 0.05
    specific: float = 0.01
    chance: float = 0.05
    level: float = 0.05
    fdr: str = "bh"
    draws: int = 9999
    bootstrap: int = 1000
    min_images: int = 10
    present: float = 0.25
    absent: float = 0.5
    groups: Mapping[str, Collection[str]] = dataclasses.field(default_factory=dict)
    action: str = "hold"
    balance: float = 0.5
    removals: int = 5
    top_images: int = 8
    batch_size: int = 64
    workers: int | None = None
    seed: int = 0
    progress: Callable[[int, int | None, str], None] | None = None

    def __post_init__(self) -> None:
        if self.targets not in TARGETS:
            raise unknown("kind of target", str(self.targets), TARGETS)
        if self.action not in REMOVALS:
            raise unknown("kind of removal", str(self.action), REMOVALS)
        if self.fdr not in FDR_METHODS:
            raise unknown("method of false-discovery control", str(self.fdr), FDR_METHODS)
        least = {"draws": 999, "bootstrap": 100, "min_images": 2, "removals": 0, "top_images": 0}
        for name, smallest in {**least, "batch_size": 1, "seed": 0}.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < smallest:
                raise InputError(
                    f"{name} must be a whole number of at least {smallest}, not {value!r}"
                )
        for name in ("match_level", "specific", "chance", "level", "present", "absent"):
            if not _number(getattr(self, name)) or not 0 < getattr(self, name) < 1:
                raise InputError(f"{name} must be above 0 and below 1, not {getattr(self, name)!r}")
        if not _number(self.balance) or not 0 <= self.balance <= 1:
            raise InputError(f"balance must be from 0 to 1, not {self.balance!r}")
        if self.present + self.absent > 1:
            raise InputError(
                f"present={self.present} and absent={self.absent} are shares of the same images "
                "and must add up to at most 1"
            )


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
