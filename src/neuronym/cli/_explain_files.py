"""What ``neuronym explain --image`` writes: where its files and pictures go."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from neuronym.explain import Examination
    from neuronym.models import LoadedModel

__all__ = ["beside", "check_pictures", "pictures_of"]


def check_pictures(folder: Path, sites: Sequence[str]) -> None:
    """Refuse, before anything is computed, a folder that cannot be written."""
    from neuronym.explain.pictures import check_folder

    for each in [folder / _plain(site) for site in sites] or [folder]:
        check_folder(each)


def beside(save: Path, site: str) -> Path:
    """Return the file of one of several sites."""
    return save.with_name(f"{save.stem}.{_plain(site)}{save.suffix or '.json'}")


def _plain(site: str) -> str:
    return re.sub(r"[^\w.#-]", "_", site)


def pictures_of(
    model: LoadedModel,
    found: Sequence[Examination],
    folder: Path | None,
    *,
    top: int,
    several: bool,
) -> list[Path]:
    """Write the pictures; return the sheets. Of several sites, those without a map are left out."""
    if folder is None:
        return []
    from neuronym.errors import InputError
    from neuronym.explain.pictures import write_pictures

    with_map = [each for each in found if each.explanation.grid is not None] if several else found
    if not with_map:
        said = "; ".join(f"{each.explanation.site}: {each.explanation.no_map}" for each in found)
        raise InputError(f"--pictures: none of the sites has a map ({said})")
    sheets = []
    for each in with_map:
        out = folder / _plain(each.explanation.site) if several else folder
        sheets.append(write_pictures(model.transform, each, out, most=top)[-1])
    return sheets
