"""Sites by name or pattern: one reading for explain, search, audit and evaluate."""

from __future__ import annotations

import pytest

from neuronym.errors import InputError
from neuronym.explain import select_sites
from neuronym.results import Atlas, SiteInfo
from neuronym.results.selection import default_site, matching_sites
from neuronym.search.chosen import chosen_sites

NAMES = ("layers.0.act", "layers.1.act", "head")


def atlas(*names: str) -> Atlas:
    sites = tuple(SiteInfo(name, 4, 1, None if name == "head" else 2, "mean", 1) for name in names)
    return Atlas(sites, (), {}, {})


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("head", ("head",)),
        ("layers.*", NAMES[:2]),
        ("head, layers.1.act", NAMES[1:]),
        (["head", "layers.?.act"], NAMES),
        ("all", NAMES),
    ],
)
def test_every_command_reads_a_choice_alike(wanted, found: tuple[str, ...]) -> None:
    for read in (matching_sites, select_sites, chosen_sites):
        assert tuple(site.name for site in read(atlas(*NAMES), wanted)) == found


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("layers.9.act", "atlas has no site 'layers.9.act'; nearest: layers."),
        (["head", "tail*"], r"atlas has no site 'tail\*'"),
        (" , ", "no site in ' , '; the atlas has layers.0.act"),
    ],
)
def test_every_command_refuses_alike(wanted, message: str) -> None:
    for read in (matching_sites, select_sites, chosen_sites):
        with pytest.raises(InputError, match=message):
            read(atlas(*NAMES), wanted)


def test_defaults() -> None:
    assert default_site(atlas(*NAMES)).name == "layers.1.act"
    assert default_site(atlas("head")).name == "head"
    assert len(chosen_sites(atlas(*NAMES), None)) == 3
    for read in (lambda: default_site(atlas()), lambda: chosen_sites(atlas(), None)):
        with pytest.raises(InputError, match="the atlas has no site"):
            read()
