"""Poolings on activations small enough to check by hand."""

from __future__ import annotations

import pytest
import torch

from neuronym.errors import InputError, UnknownNameError
from neuronym.record import DEFAULTS, POOLINGS
from neuronym.record.pooling import pooling_for
from neuronym.record.sites import LAYOUTS, Site

ACTIVATIONS = torch.tensor([[[1.0, -4.0, 0.0], [0.0, 2.0, -1.0]]])
WON = torch.tensor([[[True, True, False], [False, False, True]]])


def site(layout: str = "map", *, class_token: bool = False, positions: int = 3) -> Site:
    return Site("layer1.act", "layer1.act", 0, -1, 2, positions, layout, class_token)


def pool(choice, at: Site, *, competes: bool = False):
    chosen = pooling_for(choice, at, competes=competes)
    return chosen.name, chosen.pool(ACTIVATIONS, WON if competes else None).tolist()


def test_by_hand() -> None:
    assert pool("mean", site()) == ("mean", [[-1.0, pytest.approx(1 / 3)]])
    assert pool("max", site()) == ("max", [[1.0, 2.0]])
    assert pool("token", site("tokens")) == ("token", [[1.0, 0.0]])
    assert pool("token:2", site("tokens")) == ("token:2", [[0.0, -1.0]])
    # The winner below zero counts, the loser's 2.0 does not: the mask decides, not the value.
    assert pool("winner", site(), competes=True) == ("winner", [[-1.0, pytest.approx(-1 / 3)]])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("competes", [False, True])
def test_every_layout_has_a_default(layout, competes) -> None:
    at = site(layout)
    assert pooling_for(None, at, competes=competes).name == DEFAULTS[layout, competes]
    assert pooling_for(None, at, competes=competes).name == ("winner" if competes else "mean")


def test_class_token_is_the_default_where_there_is_one() -> None:
    at = site("tokens", class_token=True)
    assert pooling_for(None, at, competes=True).name == "token"
    assert pooling_for("mean", at, competes=True).name == "mean"


def test_a_mapping_and_a_function_of_ones_own() -> None:
    def median(activations, won):
        return activations.median(-1).values

    choice = {"layer1.*": median, "*": "max"}
    chosen = pooling_for(choice, site(), competes=False)
    assert chosen.name.endswith("median")
    assert not chosen.known
    assert chosen.pool(ACTIVATIONS, None).tolist() == [[0.0, 0.0]]
    assert pooling_for({"layer2": "max"}, site(), competes=False).name == "mean"


@pytest.mark.parametrize(
    ("choice", "at", "error", "text"),
    [
        ("avg", site(), UnknownNameError, "unknown pooling 'avg'; known: mean, max, token, winner"),
        ("mean:2", site(), UnknownNameError, "unknown pooling 'mean:2'"),
        ("winner", site(), InputError, r"'winner' needs a site that competes; 'layer1\.act' does"),
        ("token", site(), InputError, "needs a site of tokens; .* layout 'map': use 'mean'"),
        ("token:3", site("tokens"), InputError, "has tokens 0 to 2"),
        ("token:x", site("tokens"), InputError, "must be 'token' or 'token:INDEX'"),
        ("token:", site("tokens"), InputError, "must be 'token' or 'token:INDEX'"),
    ],
)
def test_poolings_that_do_not_fit(choice, at, error, text) -> None:
    with pytest.raises(error, match=text):
        pooling_for(choice, at, competes=False)


def test_winner_without_a_mask() -> None:
    with pytest.raises(InputError, match="needs a site that competes"):
        POOLINGS["winner"](ACTIVATIONS, None)
