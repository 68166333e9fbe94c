"""What if: units silenced, forced, handed over or scaled, and what it does to the decisions."""

from neuronym.models.editing import applied, apply, make_edit, variants
from neuronym.models.edits import Change, Edit

__all__ = ["Change", "Edit", "applied", "apply", "make_edit", "variants"]
