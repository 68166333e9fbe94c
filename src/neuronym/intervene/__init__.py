"""What if: units silenced, forced, handed over or scaled, and what it does to the decisions."""

from neuronym.intervene.effect import EffectOptions, effect
from neuronym.intervene.named import changes_to, units_named
from neuronym.models import Change, Edit, applied, apply, make_edit, save_edited, variants

__all__ = [
    "Change",
    "Edit",
    "EffectOptions",
    "applied",
    "apply",
    "changes_to",
    "effect",
    "make_edit",
    "save_edited",
    "units_named",
    "variants",
]
