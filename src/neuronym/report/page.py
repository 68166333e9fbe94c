"""The page itself: one HTML file and a folder of pictures, which open from disk."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2

from neuronym._version import __version__
from neuronym.errors import InputError
from neuronym.files import atomic_path, claim_folder, write_manifest
from neuronym.report.explained import make_article
from neuronym.report.options import ExplainedImage, ReportOptions
from neuronym.report.overview import make_overview
from neuronym.report.payload import atlas_payload, check_truth, script_json
from neuronym.report.pictures import PictureFolder
from neuronym.results import Atlas, Explanation
from neuronym.results.numbers import number, percent

__all__ = ["write_report"]

KIND = "report"
SCHEMA = 1
PAGE = "index.html"
_SCRIPTS = ("base.js", "gallery.js", "unit.js", "app.js")
_ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 20 20"><g fill="#9fb0c3">'
    '<circle cx="5" cy="5" r="3"/><circle cx="5" cy="15" r="3"/><circle cx="15" cy="15" r="3"/>'
    '</g><circle cx="15" cy="5" r="4" fill="#2b6cb0"/></svg>'
)


def write_report(
    atlas: Atlas,
    out: str | Path,
    *,
    explanations: Sequence[Explanation | ExplainedImage] = (),
    summary: Mapping[str, Any] | None = None,
    options: ReportOptions | None = None,
) -> Path:
    """Write a page that shows an atlas, and return the path of its ``index.html``.

    The page opens from disk in any current browser and asks the network for nothing: script,
    style, typeface and data are inside the file, pictures lie beside it in ``images/``. What the
    atlas or the summary does not hold is not shown. Texts from outside are escaped, and the
    page's policy lets no other script run. ``manifest.json`` is written last.

    Args:
        atlas: The result of a dissection; thumbnails are read from ``atlas.folder``.
        out: The folder to write: new, empty, or claimed for a report. An earlier report that is
            replaced stays until the new one is ready.
        explanations: Images that are explained, in the order in which they are shown. Where no
            picture is given with one (see ``ExplainedImage``), it is looked for under the
            explanation's ``image``.
        summary: Figures of the run: ``accuracy.competitive``, ``accuracy.dense`` and
            ``active_fraction`` (0 to 1), ``competitors``, ``units.live``, ``units.selective``,
            ``units.right`` (counts), ``seconds`` by stage, and ``truth``, a list of rows with
            ``site``, ``unit``, ``attribute``, ``auroc`` and ``right``. Also understood:
            ``task`` (text), ``classes``, ``scenes.test`` (images that accuracy was measured on),
            ``active_fraction_dense``, ``units.all`` and the ``interval`` of ``shares``. All of
            it is optional.
        options: Title, sizes and whether an earlier report is replaced.

    Raises:
        FolderInUseError: ``out`` holds an earlier report (see ``ReportOptions.overwrite``) or
            anything else.
        InputError: The summary or the atlas holds a value that cannot be.
        MissingError, UnreadableError: The picture of an explanation cannot be read.
    """
    options = options or ReportOptions()
    summary = {} if summary is None else summary
    if not isinstance(summary, Mapping):
        raise InputError(f"summary must be a mapping, not {type(summary).__name__}")
    truth = check_truth(summary.get("truth") or [], atlas)
    overview = make_overview(atlas, summary, title=options.title, truth=truth)
    items = [
        item if isinstance(item, ExplainedImage) else ExplainedImage(item) for item in explanations
    ]
    claim = claim_folder(out, kind=KIND, overwrite=options.overwrite)
    with claim.staged() as folder:
        pictures = PictureFolder(folder)
        articles = [
            make_article(item, atlas=atlas, pictures=pictures, options=options) for item in items
        ]
        data = atlas_payload(atlas, pictures, options=options, truth=truth)
        position = {unit.key: index for index, unit in enumerate(atlas.units)}
        shown = [
            [data["images"][image] for image in data["units"]["top"][position[unit.key]]]
            for unit in overview.clearest
        ]
        text = _render(
            overview=overview,
            articles=articles,
            shown=shown,
            total=len(atlas.units),
            data=script_json(data),
            broken=len(pictures.broken),
        )
        with atomic_path(folder / PAGE) as temporary:
            # A lone surrogate cannot be UTF-8: it becomes a reference that browsers replace.
            temporary.write_bytes(text.encode("utf-8", "xmlcharrefreplace"))
    write_manifest(
        claim.folder,
        kind=KIND,
        schema=SCHEMA,
        version=__version__,
        units=len(atlas.units),
        explained=len(articles),
        pictures=len(pictures),
        unreadable=[list(entry) for entry in pictures.broken],
    )
    return claim.folder / PAGE


def _render(**fields: object) -> str:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("neuronym.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=number, percent=percent, urlencode=partial(quote, safe="/"))
    style, early, script = _style(), _static("early.js"), _script()
    return environment.get_template(PAGE).render(
        policy=_policy(scripts=(early, script), style=style),
        style=style,
        early=early,
        script=script,
        icon=f"data:image/svg+xml,{quote(_ICON)}",
        version=__version__,
        **fields,
    )


def _static(name: str) -> str:
    return (files("neuronym.report") / "static" / name).read_text(encoding="utf-8")


def _style() -> str:
    font = (files("neuronym.report") / "static" / "inter.woff2").read_bytes()
    face = (
        '@font-face{font-family:Inter;font-weight:100 900;font-display:block;src:url("data:font/'
        f'woff2;base64,{base64.b64encode(font).decode()}") format("woff2")}}\n'
    )
    return face + _static("report.css")


def _script() -> str:
    return '(() => {\n"use strict";\n' + "\n".join(map(_static, _SCRIPTS)) + "})();\n"


def _policy(*, scripts: Sequence[str], style: str) -> str:
    """Return a content security policy: only these very scripts and styles, and local pictures."""

    def digest(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    return (
        f"default-src 'none'; script-src {' '.join(map(digest, scripts))}; "
        f"style-src {digest(style)}; img-src 'self' file: data:; font-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
