"""Texts from outside stay texts, the page stays on disk, and its colours can be read."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from neuronym.report import ExplainedImage, ReportOptions, write_report
from neuronym.report.payload import script_json
from neuronym.results import Atlas
from report.helpers import STATIC, data_of, page
from report.synthetic import make_explanation

HOSTILE = "<script>alert(1)</script>"


class TestSafety:
    def test_hostile_texts_stay_texts(self, atlas: Atlas, tmp_path: Path) -> None:
        made = make_explanation(atlas)
        target = replace(made.target, name=HOSTILE)
        winners = tuple(replace(winner, name=HOSTILE) for winner in made.winners)
        made = replace(made, image=HOSTILE, target=target, predictions=(target,), winners=winners)
        units = tuple(replace(row, name=HOSTILE, site=row.site) for row in atlas.units)
        hostile = replace(atlas, units=units, provenance={HOSTILE: HOSTILE, "model": HOSTILE})
        text = page(
            hostile,
            tmp_path / "o",
            explanations=[ExplainedImage(made, None, HOSTILE)],
            summary={"seconds": {HOSTILE: 1.0}},
            options=ReportOptions(title=HOSTILE),
        )
        assert "<script>alert" not in text
        assert "alert(1)</script>" not in text
        assert text.count("<script") == text.count("</script>") == 3
        assert data_of(text)["words"][0] == HOSTILE

    def test_json_cannot_leave_its_element(self) -> None:
        value = ["</script><script>", "<!--", "]]>", "\u2028", "&lt;", "\ud800"]
        text = script_json(value)
        assert not set(text) & set("<>&\u2028")
        assert text.isascii()
        assert json.loads(text) == value

    def test_a_lone_surrogate_can_be_written(self, atlas: Atlas, tmp_path: Path) -> None:
        made = make_explanation(atlas)
        target = replace(made.target, name="broken \ud800 text")
        made = replace(made, target=target, predictions=(target,))
        write_report(atlas, tmp_path / "o", explanations=[made])

    def test_the_policy_allows_these_scripts_and_no_others(self, index: Path) -> None:
        text = index.read_text(encoding="utf-8")
        policy = html.unescape(re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1])  # type: ignore[index]
        for tag in ("script", "style"):
            found = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
            assert found
            for body in found:
                digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
                assert f"'sha256-{digest}'" in policy
        assert policy.startswith("default-src 'none'; ")
        for word in ("unsafe", "http", "*"):
            assert word not in policy

    def test_nothing_points_to_the_network(self, index: Path) -> None:
        text = index.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.findall(r"https?:|//cdn|@import|url\((?!\"data:)", text)

    def test_scripts_never_make_html_of_text(self) -> None:
        for path in STATIC.glob("*.js"):
            script = path.read_text(encoding="utf-8")
            for word in ("innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval("):
                assert word not in script, f"{path.name} uses {word}"

    def test_templates_mark_as_safe_only_what_the_page_makes_itself(self) -> None:
        marked = set()
        for path in (STATIC.parent / "templates").glob("*.html"):
            text = path.read_text(encoding="utf-8")
            assert "autoescape" not in text
            assert " style=" not in text
            marked |= set(re.findall(r"\{\{ (\S+) \| safe \}\}", text))
        assert marked == {"style", "early", "script", "data"}


def _palette() -> dict[str, tuple[str, str]]:
    css = (STATIC / "report.css").read_text(encoding="utf-8")
    return {
        name: (light, dark)
        for name, light, dark in re.findall(
            r"--(\w+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\)", css
        )
    }


def _luminance(code: str) -> float:
    channels = [int(code[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(
    ("front", "back", "least"),
    [
        *[
            (text, back, 4.5)
            for text in ("ink", "muted", "accent")
            for back in ("bg", "surface", "raised")
        ],
        ("pos", "surface", 4.5),
        ("neg", "bg", 4.5),
        ("ink", "mark", 4.5),
        ("strong", "track", 3.0),
        ("edge", "bg", 3.0),
    ],
)
def test_colours_can_be_told_apart(theme: int, front: str, back: str, least: float) -> None:
    """WCAG 2.1: 4.5 to 1 for text, 3 to 1 for what is drawn."""
    palette = _palette()
    pair = sorted(_luminance(palette[name][theme]) for name in (front, back))
    assert (pair[1] + 0.05) / (pair[0] + 0.05) >= least
