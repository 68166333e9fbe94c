"""The page for every reader and window: themes, phones, keyboard, print, hostile texts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from neuronym.report import ExplainedImage, sentence, write_report
from neuronym.results import Atlas
from neuronym.results.numbers import number, percent
from report.conftest import Visitor
from report.helpers import STATIC
from report.synthetic import make_explanation

pytestmark = pytest.mark.browser
HOSTILE = "<script>alert(1)</script></script><img src=x onerror=alert(2)>"


def test_hostile_names_are_harmless(atlas: Atlas, tmp_path: Path, visit: Visitor) -> None:
    units = tuple(
        replace(row, name=HOSTILE, runner_up_names=(HOSTILE,), runner_up_scores=(0.1,))
        for row in atlas.units
    )
    images = {key: replace(image, label=HOSTILE) for key, image in atlas.images.items()}
    made = make_explanation(atlas)
    target = replace(made.target, name=HOSTILE)
    winners = tuple(replace(row, name=HOSTILE) for row in made.winners)
    made = replace(made, image=HOSTILE, target=target, predictions=(target,), winners=winners)
    hostile = replace(atlas, units=units, images=images, provenance={"model": HOSTILE})
    index = write_report(
        hostile, tmp_path / "out", explanations=[ExplainedImage(made, None, HOSTILE)]
    )
    for hash_ in ("", "#neurons?q=script", "#unit=head.lwta/12", "#explained"):
        page = visit(index, hash_).page
        page.wait_for_timeout(50)
        assert page.locator("img[onerror]").count() == 0
        assert page.locator("script").count() == 3
        assert HOSTILE in page.locator(".view:visible").inner_text()
    assert HOSTILE in sentence(made)


def test_injected_script_would_be_blocked(index: Path, tmp_path: Path, visit: Visitor) -> None:
    """The policy stands on its own: even a script inside the file does not run."""
    text = index.read_text(encoding="utf-8")
    spoilt = tmp_path / "spoilt.html"
    attack = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
    spoilt.write_text(text.replace("<main", attack + "<main", 1), encoding="utf-8")
    seen = visit(spoilt)
    seen.page.wait_for_timeout(100)
    assert seen.page.title() == "The neurons of scenes-mlp"
    blocked = [line for line in seen.complaints if "Content Security Policy" in line]
    assert len(blocked) >= 2
    seen.complaints.clear()


def test_themes(index: Path, visit: Visitor) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    light = visit(index).page
    dark = visit(index, scheme="dark").page
    bright, dim = light.evaluate(background), dark.evaluate(background)
    assert bright == "rgb(250, 249, 247)"
    assert dim == "rgb(16, 19, 23)"
    button = dark.locator("#theme")
    assert button.get_attribute("aria-pressed") == "true"
    button.click()
    assert dark.evaluate(background) == bright
    assert button.get_attribute("aria-pressed") == "false"
    dark.reload()
    assert dark.evaluate(background) == bright


@pytest.mark.parametrize("hash_", ["", "#neurons", "#unit=head.lwta/12", "#explained"])
def test_narrow_windows_do_not_scroll_sideways(index: Path, visit: Visitor, hash_: str) -> None:
    seen = visit(index, hash_, width=360)
    for width in (360, 600, 768, 1000):
        seen.page.set_viewport_size({"width": width, "height": 800})
        assert seen.overflow() == 0
        outside = seen.page.evaluate(
            "[...document.querySelectorAll('.view.current :is(h1, h2, p, a, th, td, img, svg)')]"
            ".filter(e => !e.closest('.scroll, .jump, .unseen') && e.getClientRects().length)"
            ".filter(e => e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML)"
        )
        assert outside == []


def test_long_names_stay_inside(atlas: Atlas, tmp_path: Path, visit: Visitor) -> None:
    name = "Donaudampfschifffahrtsgesellschaft" * 6
    units = tuple(replace(row, name=name) for row in atlas.units)
    made = make_explanation(atlas)
    winners = tuple(replace(row, name=name) for row in made.winners)
    target = replace(made.target, name=name)
    made = replace(made, winners=winners, target=target, predictions=(target,))
    index = write_report(replace(atlas, units=units), tmp_path / "o", explanations=[made])
    for hash_ in ("", "#neurons", "#unit=head.lwta/1", "#explained"):
        assert visit(index, hash_, width=360).overflow() == 0


def test_the_keyboard_reaches_everything(index: Path, visit: Visitor) -> None:
    seen = visit(index)
    page = seen.page
    active = "document.activeElement"
    page.keyboard.press("Tab")
    assert page.evaluate(f"{active}.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate(f"{active}.id") == "main"
    page.keyboard.press("/")
    seen.until(f"{active}.id === 'f-q'")
    page.keyboard.type("blue")
    reached = []
    for _ in range(8):
        page.keyboard.press("Tab")
        reached.append(page.evaluate(f"{active}.id || {active}.className"))
        outline = page.evaluate(f"getComputedStyle({active}).outlineStyle")
        assert outline == "solid", reached[-1]
    assert reached[:6] == ["f-site", "f-show", "f-sort", "f-low", "f-high", "f-clear"]
    assert reached[6:] == ["card", "card"]
    page.keyboard.press("Enter")
    seen.until(f"{active}.id === 'title-unit'")


def test_a_slider_moves_by_keys(index: Path, visit: Visitor) -> None:
    page = visit(index, "#neurons").page
    page.locator("#f-low").focus()
    for _ in range(30):
        page.keyboard.press("ArrowRight")
    assert page.locator("#f-low").input_value() == "30"
    assert "of 136 neurons" in page.locator("#count").inner_text()
    assert "low=30" in page.evaluate("location.hash")


def test_everything_has_a_name_for_those_who_cannot_see(index: Path, visit: Visitor) -> None:
    for hash_ in ("", "#neurons", "#unit=head.lwta/12", "#explained"):
        page = visit(index, hash_).page
        nameless = page.evaluate(
            "[...document.querySelectorAll('a, button, input, select')]"
            ".filter(e => e.getClientRects().length)"
            ".filter(e => !(e.getAttribute('aria-label') || e.textContent.trim()"
            " || (e.labels && e.labels.length))).map(e => e.outerHTML)"
        )
        assert nameless == []
        assert page.locator("img:not([alt])").count() == 0
        assert page.locator("h1:visible").count() == 1
        twice = page.evaluate(
            "[...document.querySelectorAll('[id]')].map(e => e.id)"
            ".filter((id, i, all) => all.indexOf(id) !== i)"
        )
        assert twice == []
    alts = visit(index, "#unit=head.lwta/12").page.locator(".tops img")
    assert str(alts.first.get_attribute("alt")).startswith("Image 1 of the 9 that excite it most: ")


def test_pictures_keep_their_places(index: Path, visit: Visitor) -> None:
    """Boxes have their size whether or not the picture has come."""
    page = visit(index, "#unit=head.lwta/12").page
    boxes = "[...document.querySelectorAll('.view.current img')].map(i => [i.width, i.height])"
    before = page.evaluate(boxes)
    assert len(before) > 20
    page.evaluate("document.querySelectorAll('img').forEach(i => { i.src = 'data:,' })")
    assert page.evaluate(boxes) == before


@pytest.mark.parametrize("hash_", ["", "#neurons", "#unit=head.lwta/12", "#explained"])
def test_nothing_moves_while_the_page_comes(index: Path, visit: Visitor, hash_: str) -> None:
    page = visit(index, hash_).page
    page.wait_for_timeout(200)
    moved = page.evaluate(
        "new Promise(done => { new PerformanceObserver(list => done(list.getEntries().map("
        "e => e.value))).observe({type: 'layout-shift', buffered: true});"
        " setTimeout(() => done([]), 200) })"
    )
    # What remains is a pixel of text when the typeface has been decoded; 0.1 is called good.
    assert sum(moved) < 0.002


def test_numbers_agree_with_the_command_line(browser: object, visit: Visitor, index: Path) -> None:
    """The page's script and Python format numbers alike."""
    source = (STATIC / "base.js").read_text(encoding="utf-8").split("const data =")[0]
    page = visit(index).page
    values = [
        0.41234,
        -5.314,
        0.99999,
        1536,
        123456.7,
        1.234e-4,
        1.23e-5,
        -1.5e12,
        0,
        9.996,
        0.0625,
        2.125,
    ]
    shares = [0, 1, 0.125, 0.1, 0.0004, 0.99999, 0.33333, 0.9994, 0.0625]
    made = page.evaluate(
        f"([values, shares]) => {{ {source} return [values.map(v => number(v)),"
        " shares.map(v => percent(v))] }",
        [values, shares],
    )
    assert made == [[number(value) for value in values], [percent(share) for share in shares]]


def test_printing(index: Path, visit: Visitor) -> None:
    page = visit(index, scheme="dark").page
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("header.bar").is_visible()
    assert page.pdf().startswith(b"%PDF")


def test_without_scripts_the_overview_and_explanations_can_be_read(
    index: Path, browser: object
) -> None:
    context = browser.new_context(java_script_enabled=False)  # type: ignore[attr-defined]
    page = context.new_page()
    page.goto(index.as_uri())
    assert page.locator("#view-overview").is_visible()
    assert page.locator("article.explained").count() == 3
    assert page.locator("article.explained").first.is_visible()
    assert page.get_by_text("The gallery needs JavaScript").is_visible()
    context.close()
