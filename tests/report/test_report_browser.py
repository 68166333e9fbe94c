"""The page in a real browser, opened from disk with the network off."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from neuronym.report import ReportOptions, write_report
from neuronym.results import Atlas, Formula, LinearFit, Unit
from neuronym.results.numbers import number, percent
from report.conftest import Visitor
from report.synthetic import make_atlas

pytestmark = pytest.mark.browser


def has(row: Unit, text: str) -> bool:
    return any(text in name for name in (row.name or f"unit {row.unit}", *row.runner_up_names))


def where(link: str) -> str:
    site, unit = link.removeprefix("#unit=").rsplit("/", 1)
    return f"{site}, unit {unit}, "


def test_opens_on_the_overview(index: Path, visit: Visitor) -> None:
    page = visit(index).page
    assert page.title() == "The neurons of scenes-mlp"
    assert page.locator(".view:visible").evaluate_all("all => all.map(v => v.id)") == [
        "view-overview"
    ]
    assert page.locator("#view-overview .card").count() == 8
    assert page.evaluate("document.fonts.check('16px Inter')")
    assert page.evaluate("getComputedStyle(document.body).fontFamily").startswith("Inter")


def test_pictures_are_drawn(index: Path, visit: Visitor) -> None:
    seen = visit(index)
    seen.until(
        "[...document.querySelectorAll('#view-overview .mosaic img')].slice(0, 5)"
        ".every(image => image.complete && image.naturalWidth > 0)"
    )


def test_search_as_you_type_looks_through_names_and_runners_up(
    index: Path, atlas: Atlas, visit: Visitor
) -> None:
    seen = visit(index, "#neurons")
    page = seen.page
    page.locator("#f-q").press_sequentially("azu")
    expected = [row for row in atlas if has(row, "azu")]
    assert len(expected) > 3
    assert seen.cards() == ["blue"] * len(expected)
    assert page.locator("#count").inner_text() == f"{len(expected)} of 136 neurons"
    assert page.locator("#gallery .other").first.inner_text() == "runner-up: azure"
    assert page.locator("#gallery mark").first.inner_text() == "azu"
    page.locator("#f-q").fill("BLUE denim")
    assert len(seen.cards()) == len(expected)
    page.locator("#f-q").fill("no such word")
    assert "No neuron fits" in page.locator("#count").inner_text()
    page.keyboard.press("Escape")
    assert page.locator("#count").inner_text() == "136 neurons"


def test_a_frequent_name_leads_to_its_units(index: Path, atlas: Atlas, visit: Visitor) -> None:
    seen = visit(index)
    link = seen.page.locator(".words a", has_text="square")
    name, count = link.inner_text().split()
    link.click()
    seen.page.locator("#gallery").wait_for()
    assert seen.cards() == [name] * int(count)
    assert int(count) == sum(row.name == name for row in atlas)
    assert int(count) < sum(has(row, name) for row in atlas)  # it is a runner-up elsewhere


def test_filters_by_site_score_and_name(index: Path, atlas: Atlas, visit: Visitor) -> None:
    page = visit(index, "#neurons").page
    count = page.locator("#count")
    page.locator("#f-site").select_option("blocks.2.act")
    assert count.inner_text() == "40 of 136 neurons"
    assert set(page.locator("#gallery .where").all_inner_texts()[:1]) < {
        f"blocks.2.act · unit {row.unit}" for row in atlas.of_site("blocks.2.act")
    }
    page.locator("#f-show").select_option("silent")
    silent = [row for row in atlas.of_site("blocks.2.act") if row.firing_rate == 0]
    assert silent
    assert count.inner_text() == f"{len(silent)} of 136 neurons"
    page.locator("#f-clear").click()
    assert count.inner_text() == "136 neurons"
    assert page.locator("#f-site").input_value() == ""
    scores = [row.score for row in atlas if row.score is not None]
    low = min(scores) + 0.6 * (max(scores) - min(scores))
    page.locator("#f-low").fill("60")
    above = sum(score >= low for score in scores)
    assert 3 < above < len(scores)
    assert count.inner_text() == f"{above} of 136 neurons"
    assert page.locator("#f-span").inner_text() == f"{number(low)} to {number(max(scores))}"
    page.locator("#f-high").fill("20")
    assert page.locator("#f-high").input_value() == "60"


def test_filters_by_truth(index: Path, visit: Visitor) -> None:
    page = visit(index, "#neurons?show=right").page
    right = int(page.locator("#count").inner_text().split()[0])
    page.locator("#f-show").select_option("wrong")
    wrong = int(page.locator("#count").inner_text().split()[0])
    assert right > wrong > 0
    assert set(page.locator("#gallery .badge").all_inner_texts()) == {"name not right"}


def test_sorting(index: Path, atlas: Atlas, visit: Visitor) -> None:
    page = visit(index, "#neurons").page
    orders = {
        "weak": lambda row: 9 if row.score is None else row.score,
        "fire": lambda row: -row.firing_rate,
        "rare": lambda row: row.firing_rate,
        "site": lambda row: 0,
        "score": lambda row: 9 if row.score is None else -row.score,
    }
    for order, key in orders.items():
        page.locator("#f-sort").select_option(order)
        links = page.locator("#gallery .card").evaluate_all("all => all.map(a => a.hash.slice(6))")
        assert links == [row.key for row in sorted(atlas, key=key)[:48]], order


def test_sorting_by_name(index: Path, atlas: Atlas, visit: Visitor) -> None:
    names = visit(index, "#neurons?sort=name").cards()
    assert names == sorted(str(row.name) for row in atlas if row.name)[:48]


def test_pages_of_the_gallery(index: Path, visit: Visitor) -> None:
    seen = visit(index, "#neurons?sort=site")
    page = seen.page
    assert page.locator("#p-prev").is_disabled()
    first = seen.cards()
    page.locator("#p-next").click()
    assert page.locator("#p-where").inner_text() == "Page 2 of 3"
    assert "page=2" in page.evaluate("location.hash")
    page.locator("#p-next").click()
    assert len(seen.cards()) == 136 - 96
    assert page.locator("#p-next").is_disabled()
    page.reload()
    assert len(seen.cards()) == 136 - 96
    page.locator("#f-q").fill("red")
    page.locator("#f-q").fill("")
    assert seen.cards() == first


def test_a_deep_link_shows_one_neuron(index: Path, atlas: Atlas, visit: Visitor) -> None:
    row = next(row for row in atlas if row.name and row.unit > 10 and len(row.top_images) > 5)
    page = visit(index, f"#unit={row.key}").page
    view = page.locator("#view-unit")
    text = view.inner_text()
    assert view.locator("h1").inner_text() == row.name
    assert page.title() == f"{row.name} · The neurons of scenes-mlp"
    assert f"{row.site}, unit {row.unit}, block {row.block} of 8 competitors" in text
    assert number(row.score or 0) in text
    assert f"Fires on\n{percent(row.firing_rate)} of the images" in text
    assert view.locator(".tops img").count() == len(row.top_images)
    shown = view.locator(".tops .n").all_inner_texts()
    assert shown == [number(value) for value in row.top_activations]
    names = view.locator(".names th").all_inner_texts()
    assert names == [row.name, *row.runner_up_names]


def test_rivals_stand_side_by_side_with_their_shares(
    index: Path, atlas: Atlas, visit: Visitor
) -> None:
    row = atlas.units[12]
    seen = visit(index, "#unit=head.lwta/12")
    page = seen.page
    rivals = [other for other in atlas if other.site == row.site and other.block == row.block]
    expected = sorted((other.win_rate or 0 for other in rivals), reverse=True)
    shown = page.locator(".rivals .wins .n").all_inner_texts()
    assert shown == [percent(value) for value in expected]
    assert sum(expected) == pytest.approx(1)
    assert "unit 12 (this one)" in page.locator(".rivals [aria-current=true]").inner_text()
    tops = page.locator(".rivals li").evaluate_all("all => all.map(l => l.offsetTop)")
    assert len(tops) == 8
    assert len(set(tops)) == 1
    other = page.locator(".rivals a:not([aria-current])").first
    target = other.get_attribute("href")
    other.click()
    seen.wait_for("#view-unit .lede", where(str(target)))
    assert page.locator(".rivals [aria-current=true]").get_attribute("href") == target


def test_a_dense_unit_has_no_rivals(index: Path, visit: Visitor) -> None:
    text = visit(index, "#unit=blocks.2.act/3").page.locator("#view-unit").inner_text()
    assert "blocks.2.act is dense: its units do not compete." in text
    assert "rivals" not in text


def test_a_silent_unit(index: Path, atlas: Atlas, visit: Visitor) -> None:
    row = next(row for row in atlas if row.name is None)
    view = visit(index, f"#unit={row.key}").page.locator("#view-unit")
    assert view.locator("h1").inner_text() == "no name"
    assert "No image made this unit fire." in view.inner_text()
    assert view.locator("#u-names").count() == 0


@pytest.mark.parametrize("key", ["head.lwta/9999", "nowhere/1", "%3Cimg src=x%3E", "%E0%A4%A"])
def test_a_link_to_no_unit_says_so(index: Path, visit: Visitor, key: str) -> None:
    page = visit(index, f"#unit={key}").page
    assert page.locator("#view-unit h1").inner_text() == "No such neuron"
    assert page.locator("#view-unit img").count() == 0


def test_an_unknown_address_shows_the_overview(index: Path, visit: Visitor) -> None:
    assert visit(index, "#nonsense").page.locator("#view-overview").is_visible()
    page = visit(index, "#neurons?sort=x&page=-3&low=abc&site=none").page
    assert page.locator("#count").inner_text() == "136 neurons"


def test_back_returns_to_the_same_place(index: Path, visit: Visitor) -> None:
    seen = visit(index, "#neurons?q=red")
    page = seen.page
    before = page.locator("#count").inner_text()
    page.mouse.wheel(0, 500)
    seen.until("scrollY > 200")
    place = page.evaluate("scrollY")
    page.locator("#gallery .card").nth(9).click()
    page.locator("#view-unit .hero").wait_for()
    assert page.evaluate("scrollY") == 0
    page.go_back()
    page.locator("#gallery").wait_for()
    assert page.locator("#count").inner_text() == before
    assert page.locator("#f-q").input_value() == "red"
    seen.until(f"Math.abs(scrollY - {place}) < 80")


def test_next_follows_the_gallery(index: Path, visit: Visitor) -> None:
    seen = visit(index, "#neurons?q=red")
    page = seen.page
    links = page.locator("#gallery .card").evaluate_all("all => all.map(a => a.hash)")
    page.locator("#gallery .card").first.click()
    seen.wait_for("#view-unit .lede", where(links[0]))
    page.locator("#u-next").click()
    seen.wait_for("#view-unit .lede", where(links[1]))
    page.keyboard.press("ArrowRight")
    seen.wait_for("#view-unit .lede", where(links[2]))
    page.keyboard.press("ArrowLeft")
    seen.wait_for("#view-unit .lede", where(links[1]))
    page.locator("#u-back").click()
    page.locator("#f-q").wait_for()
    assert page.locator("#f-q").input_value() == "red"


def test_the_map_of_blocks(index: Path, atlas: Atlas, visit: Visitor) -> None:
    page = visit(index).page
    cells = page.locator("#maps .map rect")
    assert cells.count() == 96
    never = sum(row.win_rate == 0 for row in atlas.of_site("head.lwta"))
    assert page.locator("#maps .never").count() == never > 0
    assert f"{never} units never won" in str(page.locator(".map").get_attribute("aria-label"))
    cell = page.locator("#maps .won").first
    cell.scroll_into_view_if_needed()
    cell.hover()
    assert re.search(r"unit \d+ · block \d+ · wins [\d.]+", page.locator(".tell").inner_text())
    cell.click()
    page.locator("#view-unit .hero").wait_for()


def test_explained_images(index: Path, visit: Visitor) -> None:
    page = visit(index, "#explained").page
    articles = page.locator("article.explained")
    assert articles.count() == 3
    assert "Predicted red circle" in articles.first.locator(".sentence").inner_text()
    assert articles.nth(1).locator(".note").last.inner_text().startswith("The terms add up to the")
    images = articles.locator("img").evaluate_all("all => all.map(i => [i.width, i.height])")
    assert all(width > 100 and width == height for width, height in images)
    link = articles.first.locator(".chart a").first
    name = link.inner_text()
    link.click()
    page.locator("#view-unit .hero").wait_for()
    assert page.locator("#view-unit h1").inner_text() == name
    page.goto(index.as_uri() + "#explained=3")
    articles.nth(2).wait_for()
    top = articles.nth(2).evaluate("a => a.getBoundingClientRect().top")
    assert -5 <= top < 400


def test_bars_of_contributions_start_at_zero(index: Path, visit: Visitor) -> None:
    page = visit(index, "#explained").page
    for row in page.locator("article.explained").first.locator(".chart tbody tr").all():
        zero, fill = (row.locator(f"rect.{kind}").bounding_box() for kind in ("zero", "fill"))
        assert zero
        assert fill
        value = row.locator("td").last.inner_text()
        edge = fill["x"] + fill["width"] if value.startswith("−") else fill["x"]
        assert edge == pytest.approx(zero["x"], abs=1.5)


def test_five_thousand_units(tmp_path: Path, visit: Visitor) -> None:
    atlas = make_atlas(tmp_path / "a", competitive=4800, dense=200, competitors=24, count=200)
    index = write_report(atlas, tmp_path / "out", options=ReportOptions(top_images=9))
    seen = visit(index, "#neurons")
    page = seen.page
    assert page.locator("#count").inner_text() == "5,000 neurons"
    assert page.locator("#p-where").inner_text() == "Page 1 of 105"
    assert page.locator("#gallery .card").count() == 48
    expected = sum(has(row, "zebra") for row in atlas)
    page.locator("#f-q").press_sequentially("zebra")
    assert page.locator("#count").inner_text() == f"{expected:,} of 5,000 neurons"
    page.locator("#f-clear").click()
    page.locator("#f-sort").select_option("site")
    page.locator("#f-site").select_option("blocks.2.act")
    assert page.locator("#gallery .where").first.inner_text() == "blocks.2.act · unit 0"
    page.goto(index.as_uri() + "#unit=head.lwta/4799")
    page.locator("#view-unit .hero").wait_for()
    assert page.locator(".rivals li").count() == 24
    page.goto(index.as_uri() + "#overview")
    page.locator("#view-overview").wait_for()
    assert page.locator("#maps").is_hidden()  # a map of 4,800 squares would help nobody
    assert seen.overflow() == 0


def test_a_name_that_may_be_chance_and_longer_names(
    atlas: Atlas, visit: Visitor, tmp_path: Path
) -> None:
    first, second = [row for row in atlas.units[:12] if row.name][:2]
    changed = {
        first.key: replace(
            first,
            name=None,
            score=None,
            p_value=0.4,
            q_value=0.6,
            unnamed="not significant",
            runner_up_names=(str(first.name), *first.runner_up_names),
            runner_up_scores=(first.score or 0.0, *first.runner_up_scores),
        ),
        second.key: replace(
            second,
            q_value=0.012,
            linear=LinearFit(("red", "round <b>"), (0.5, 0.25), 0.61, 0.4, "red", 0.52),
            formula=Formula("red AND NOT circle", 0.93, 0.05, "red", 0.88),
        ),
    }
    units = tuple(changed.get(row.key, row) for row in atlas)
    index = write_report(replace(atlas, units=units), tmp_path / "report")
    page = visit(index, f"#unit={first.key}").page
    text = page.locator("#view-unit").inner_text()
    assert page.locator("#view-unit h1").inner_text() == "no name"
    assert f"Unnamed (not significant; best candidate {first.name})" in text
    assert "q-value\n0.60 false-discovery rate" in text
    assert page.locator(".names th").all_inner_texts() == [first.name, *first.runner_up_names]
    assert "In more than one word" not in text
    page = visit(index, f"#unit={second.key}").page
    text = page.locator("#view-unit").inner_text()
    assert "Formula\nred AND NOT circle AUROC 0.930; red alone 0.880" in text
    assert "Weighted sum\n0.50\u00a0red + 0.25\u00a0round <b> correlation 0.610" in text
    assert "red alone 0.520" in text
    page = visit(index, "#neurons?show=chance").page
    assert page.locator("#count").inner_text() == f"1 of {len(atlas)} neurons"
    assert (
        "1 is unnamed because the best name may be chance."
        in visit(index).page.locator("#view-overview .lede").first.inner_text()
    )
