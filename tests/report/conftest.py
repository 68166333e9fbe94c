"""An atlas of drawn images, its report, and a browser to look at it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from neuronym.report import ExplainedImage, write_report
from neuronym.results import Atlas
from report.synthetic import SUMMARY, make_atlas, make_explanation, make_images, make_truth

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="session")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Atlas:
    """96 competing units in blocks of 8 and 40 dense ones."""
    return make_atlas(tmp_path_factory.mktemp("atlas"))


@pytest.fixture(scope="session")
def index(atlas: Atlas, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report about ``atlas`` with three explained images, all figures and the truth."""
    root = tmp_path_factory.mktemp("report")
    drawn, _ = make_images(root / "explained", count=3, seed=9)
    explained = [
        ExplainedImage(
            make_explanation(
                atlas,
                seed=seed,
                shows=frozenset({item.colour, item.shape}),
                error=0.4 * (seed == 1),
            ),
            item.image,
            item.label,
        )
        for seed, item in enumerate(drawn)
    ]
    summary = {**SUMMARY, "truth": make_truth(atlas)}
    return write_report(atlas, root / "out", explanations=explained, summary=summary)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A headless Chromium of this machine; skips where none is found."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if found is None:
        pytest.skip(f"no browser on this machine: none of {', '.join(_BROWSERS)} is on the path")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=list(_FLAGS))
        yield browser
        browser.close()


@dataclass
class Visit:
    """A page in the browser, and everything that it complained about or asked for."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def cards(self) -> list[str]:
        """Names on the cards of the gallery, in order."""
        return self.page.locator("#gallery .caption strong").all_inner_texts()

    def wait_for(self, selector: str, text: str) -> None:
        """Wait until something visible holds ``text``."""
        self.page.locator(selector, has_text=text).first.wait_for()

    def until(self, expression: str) -> None:
        """Wait until a JavaScript expression holds (the page's policy forbids waiting inside)."""
        for _ in range(100):
            if self.page.evaluate(expression):
                return
            self.page.wait_for_timeout(50)
        raise AssertionError(f"never true: {expression}")

    def overflow(self) -> int:
        """How many pixels the page is wider than its window."""
        return int(
            self.page.evaluate(
                "Math.max(document.documentElement.scrollWidth, document.body.scrollWidth)"
                " - document.documentElement.clientWidth"
            )
        )


class Visitor:
    """Opens pages from disk with the network off, and closes them afterwards."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self.visits: list[Visit] = []

    def __call__(
        self, index: Path, hash_: str = "", *, width: int = 1280, scheme: str = "light"
    ) -> Visit:
        context = self._browser.new_context(
            viewport={"width": width, "height": 800}, color_scheme=scheme, offline=True
        )
        page = context.new_page()
        page.set_default_timeout(10_000)
        visit = Visit(page)
        page.on("console", lambda line: visit.complaints.append(f"{line.type}: {line.text}"))
        page.on("pageerror", lambda error: visit.complaints.append(f"error: {error}"))
        page.on("request", lambda request: visit.requests.append(request.url))
        page.on("dialog", lambda dialog: (visit.complaints.append("dialog"), dialog.dismiss()))
        page.goto(index.as_uri() + hash_)
        self.visits.append(visit)
        return visit

    def close(self) -> None:
        for visit in self.visits:
            visit.page.context.close()


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visitor]:
    """Open a page; at the end no page may have complained or left the disk."""
    visitor = Visitor(browser)
    yield visitor
    visitor.close()
    for seen in visitor.visits:
        assert seen.complaints == []
        assert all(url.startswith(("file:", "data:")) for url in seen.requests)
