"""Concerns: what a model should not rely on, as texts or as example images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from neuronym.errors import InputError, UnreadableError
from neuronym.files import existing
from neuronym.probes import ProbeSet

__all__ = ["KNOWN_SHORTCUTS", "Concern", "concerns_from_file", "concerns_of", "known_shortcuts"]

LONGEST = 200
_BEERY = "cows without grass are missed (Beery et al. 2018, arXiv 1807.04975)"
_SAGAWA = "land and water birds by what lies behind them (Sagawa et al. 2019, arXiv 1911.08731)"
_FACES = "a class by the people beside it (Stock and Cisse 2017, arXiv 1711.11443)"
_CHEX = "marks of the hospital in X-ray images (Zech et al. 2018, PLOS Medicine 15(11))"
_XIAO = "backgrounds alone tell many classes (Xiao et al. 2020, arXiv 2006.09994)"
_HAIR = "hair colour by gender in portraits (Sagawa et al. 2019, arXiv 1911.08731)"

KNOWN_SHORTCUTS: Mapping[str, str] = {
    "watermark": "watermarks in photos of cartons (Li et al. 2022, arXiv 2212.04825)",
    "copyright tag": "a source tag in photos of horses (Lapuschkin et al. 2019, arXiv 1902.10178)",
    "text": "written words override the object (Goh et al. 2021, doi 10.23915/distill.00030)",
    "logo": "a maker's or a source's sign stands beside the object in many collections",
    "border": "padding at the border of airplanes (Lapuschkin et al. 2019, arXiv 1902.10178)",
    "frame": "as a border: a sign of where the image comes from",
    "person": _FACES,
    "face": _FACES,
    "hand": "a fish by the fingers that hold it (Brendel and Bethge 2019, arXiv 1904.00760)",
    "man": _HAIR,
    "woman": _HAIR,
    "snow": "wolves and huskies by snow (Ribeiro et al. 2016, arXiv 1602.04938)",
    "grass": _BEERY,
    "beach": _BEERY,
    "water": _SAGAWA,
    "forest": _SAGAWA,
    "sky": _XIAO,
    "road": _XIAO,
    "indoor room": _XIAO,
    "white background": "studio photos of goods; see also " + _XIAO,
    "black background": "as a white background: how an image was taken, not what it shows",
    "ruler": "rulers beside malignant moles (Narla et al. 2018, doi 10.1016/j.jid.2018.06.175)",
    "skin marker": "ink beside moles (Winkler et al. 2019, doi 10.1001/jamadermatol.2019.1735)",
    "coloured patch": "patches beside benign moles (Rieger et al. 2019, arXiv 1909.13584)",
    "hospital tag": _CHEX,
    "metal token": _CHEX,
    "chest drain": "a treated pneumothorax (Oakden-Rayner et al. 2019, arXiv 1909.12475)",
}
"""Shortcuts that models were found to take → why it is a concern, with the source."""


@dataclass(frozen=True)
class Concern:
    """One thing that a model should not rely on.

    Attributes:
        name: What results call it; not empty.
        text: What the vision-text model reads; by default the name.
        examples: Images that show it, in place of a text.
        note: Why it is a concern.
    """

    name: str
    text: str | None = None
    examples: ProbeSet | None = None
    note: str = ""

    def __post_init__(self) -> None:
        for what, value in (("name", self.name), ("text", self.text)):
            if value is not None and (not isinstance(value, str) or not value.strip()):
                raise InputError(f"the {what} of a concern must not be empty, not {value!r}")
            if value is not None and len(value) > LONGEST:
                raise InputError(
                    f"the {what} of a concern has at most {LONGEST} characters, not {len(value)}"
                )
        if self.text is not None and self.examples is not None:
            raise InputError(f"concern {self.name!r} has a text and examples; give one of them")

    @property
    def read_as(self) -> str | None:
        """The text that stands for it; ``None`` where examples do."""
        if self.examples is not None:
            return None
        return self.name if self.text is None else self.text


def known_shortcuts() -> tuple[Concern, ...]:
    """Return :data:`KNOWN_SHORTCUTS` as concerns."""
    return tuple(Concern(name, note=note) for name, note in KNOWN_SHORTCUTS.items())


def concerns_of(given: Sequence[str | Concern]) -> tuple[Concern, ...]:
    """Return concerns with different names; a text stands for itself.

    Raises:
        InputError: There is none, one is empty or no text, or a name occurs twice.
    """
    if isinstance(given, str):
        raise InputError(f"concerns must be a list, not the text {given!r}; give [{given!r}]")
    made = [each if isinstance(each, Concern) else _of_text(each) for each in given]
    if not made:
        raise InputError(
            "no concern to audit; give texts such as 'watermark', or the known shortcuts"
        )
    names = [each.name for each in made]
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(f"concern {twice[0]!r} is given twice")
    return tuple(made)


def _of_text(text: object) -> Concern:
    if not isinstance(text, str):
        raise InputError(f"a concern is a text or a Concern, not a {type(text).__name__}")
    name = " ".join(text.split())
    note = KNOWN_SHORTCUTS.get(name, "")
    return Concern(name, note=note)


def concerns_from_file(path: str | Path) -> tuple[Concern, ...]:
    """Read one concern per line; blank lines and lines that begin with ``#`` do not count.

    Raises:
        MissingError: The file does not exist.
        UnreadableError: It is not UTF-8 text.
        InputError: It names no concern, or one twice.
    """
    found = existing(path, what="file of concerns")
    try:
        lines = found.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise UnreadableError(f"{str(path)!r} is not UTF-8 text: {error.reason}") from error
    words = [line.strip() for line in lines]
    kept = [word for word in words if word and not word.startswith("#")]
    if not kept:
        raise InputError(f"file {str(path)!r} names no concern; give one per line")
    return concerns_of(kept)
