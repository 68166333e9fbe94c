"""Where a winner is active: grids of known layouts, planted places, and pictures of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from explain.test_explain import SIZE, atlas_of, linear_net, loaded, picture
from neuronym.errors import FolderInUseError, InputError
from neuronym.explain import Examination, ExplainOptions, Grid, examine, explain
from neuronym.explain.colours import diverging, enlarged, sequential
from neuronym.explain.pictures import crop, seen, write_pictures
from neuronym.explain.places import grid_of, prefix_tokens
from neuronym.lwta import LWTA
from neuronym.models import LoadedModel, Preprocessing
from neuronym.results import Place, SiteInfo

SQUARE = (64, 64)


@pytest.mark.parametrize(
    ("shape", "channel_dim", "image", "prefix", "expected"),
    [
        ((1, 8, 4, 4), 1, SQUARE, None, Grid(4, 4)),
        ((1, 4, 4, 8), -1, SQUARE, None, Grid(4, 4)),
        ((1, 8, 7, 10), 1, (224, 320), None, Grid(7, 10)),
        ((1, 8, 3, 3), 1, (33, 32), None, Grid(3, 3)),  # rounded
        ((1, 197, 8), -1, SQUARE, 1, Grid(14, 14, 1)),
        ((1, 196, 8), -1, SQUARE, None, Grid(14, 14)),
        ((1, 197, 8), -1, SQUARE, None, Grid(14, 14, 1)),
        ((1, 8, 200), 1, SQUARE, 4, Grid(14, 14, 4)),
        ((1, 51, 8), 2, (160, 320), 1, Grid(5, 10, 1)),
    ],
)
def test_positions_lie_as_the_layout_says(
    shape: tuple[int, ...],
    channel_dim: int,
    image: tuple[int, int],
    prefix: int | None,
    expected: Grid,
) -> None:
    assert grid_of(shape, channel_dim=channel_dim, image=image, prefix=prefix) == expected


@pytest.mark.parametrize(
    ("shape", "channel_dim", "prefix", "reason"),
    [
        ((1, 8), 1, None, "one position"),
        ((1, 8, 1, 1), 1, None, "which is the whole image"),
        ((1, 12, 197, 8), -1, None, "12 x 197 positions have not the proportions"),
        ((1, 8, 2, 4, 4), 1, None, "is no plane"),
        ((1, 200, 8), -1, None, "200 tokens, with or without a class token"),
        ((1, 200, 8), -1, 1, "200 tokens without 1 prefix tokens"),
    ],
)
def test_what_does_not_fit_has_no_map_and_says_why(
    shape: tuple[int, ...], channel_dim: int, prefix: int | None, reason: str
) -> None:
    found = grid_of(shape, channel_dim=channel_dim, image=SQUARE, prefix=prefix)
    assert isinstance(found, str)
    assert reason in found


def test_prefix_tokens_are_what_the_model_says() -> None:
    inner, outer = nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2))
    assert prefix_tokens(outer) is None
    inner.num_prefix_tokens = 5
    outer.add_module("inner", inner)
    assert prefix_tokens(outer) == 5
    outer.num_prefix_tokens = 1
    assert prefix_tokens(outer) is None


class Corner(nn.Module):
    """Unit 0 wins where the image is bright, unit 1 elsewhere; 4 x 4 positions."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(SIZE // 4)
        self.conv = nn.Conv2d(3, 2, 1)
        self.act = LWTA(2, channel_dim=1)
        self.head = nn.Linear(2, 3)
        with torch.no_grad():
            self.conv.weight.copy_(torch.tensor([[1.0] * 3, [-1.0] * 3]).view(2, 3, 1, 1))
            self.conv.bias.zero_()
            self.head.weight.copy_(torch.tensor([[2.0, -1.0], [0.0, 0.0], [0.0, 0.0]]))
            self.head.bias.zero_()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.act(self.conv(self.pool(x))).mean((2, 3)))


def corner(bright: tuple[int, int]) -> Image.Image:
    pixels = np.zeros((SIZE, SIZE, 3), np.uint8)
    row, column = (2 * place for place in bright)
    pixels[row : row + 2, column : column + 2] = 255
    return Image.fromarray(pixels)


def examined(model: LoadedModel, image: Image.Image) -> Examination:
    atlas = atlas_of(SiteInfo("act", 2, 1, 2, "mean", 16), fingerprint=model.fingerprint)
    return examine(model, image, atlas=atlas, target="cat")[0]


@pytest.mark.parametrize("bright", [(0, 0), (1, 3), (3, 2)])
def test_a_planted_place_is_found(bright: tuple[int, int]) -> None:
    found = examined(loaded(Corner()), corner(bright))
    assert found.explanation.grid == (4, 4)
    unit = next(winner for winner in found.explanation.winners if winner.unit == 0)
    row, column = bright
    assert unit.place is not None
    assert unit.place.box == (column / 4, row / 4, (column + 1) / 4, (row + 1) / 4)
    assert unit.place.centre == ((column + 0.5) / 4, (row + 0.5) / 4)
    seen_at = found.position_map(0)
    assert np.argwhere(seen_at.values != 0).tolist() == [[row, column]]
    assert seen_at.values[row, column] == pytest.approx(6.0)  # (1 - 0.5) / 0.25, three channels
    assert seen_at.contribution[row, column] == pytest.approx(6.0 * 2 / 16)
    assert unit.place.contribution == pytest.approx(unit.contribution)


def test_sites_of_one_position_say_so() -> None:
    model = loaded(linear_net())
    atlas = atlas_of(SiteInfo("2", 24, 1, 4, "winner", 1), fingerprint=model.fingerprint)
    (found,) = examine(model, picture(), atlas=atlas)
    assert found.explanation.grid is None
    assert found.explanation.no_map == "it has one position"
    assert all(winner.place is None for winner in found.explanation.winners)
    with pytest.raises(InputError, match="site '2' has no map: it has one position"):
        found.position_map(0)


def test_tokens_of_a_transformer_lie_behind_its_prefix() -> None:
    import timm

    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = timm.create_model(
            "vit_tiny_patch16_224", img_size=32, patch_size=8, depth=1, num_classes=3
        )
    transform = Preprocessing((3, 32, 32), (0.5,) * 3, (0.5,) * 3)
    model = LoadedModel(module, transform, None, "vit", (3, 32, 32))
    site = SiteInfo("blocks.0.mlp.act", 768, -1, None, "mean", 17)
    atlas = atlas_of(site, fingerprint=model.fingerprint)
    (found,) = examine(model, picture().resize((32, 32)), atlas=atlas)
    assert found.explanation.grid == (4, 4)
    unit = found.explanation.winners[0].unit
    np.testing.assert_allclose(
        found.position_map(unit).values.ravel(), found.activations[unit, 1:].numpy()
    )
    wrong = explain(model, picture(), atlas=atlas, options=ExplainOptions(prefix_tokens=4))
    assert "17 tokens without 4 prefix tokens fill no grid" in wrong.no_map


def test_pictures_show_the_planted_place(tmp_path: Path) -> None:
    model = loaded(Corner())
    found = examined(model, corner((1, 3)))
    files = write_pictures(model.transform, found, tmp_path / "out")
    names = [path.name for path in files]
    assert names[-1] == "sheet.png"
    rank = 1 + [winner.unit for winner in found.explanation.winners].index(0)
    assert f"{rank:02d}-unit-0-activation.png" in names
    assert len(files) == 3 * len(found.explanation.winners) + 1
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(names)
    with Image.open(tmp_path / "out" / f"{rank:02d}-unit-0-contribution.png") as opened:
        pixels = np.asarray(opened.convert("RGB")).astype(float)
    side = pixels.shape[0] // 4
    warm = (pixels[..., 0] - pixels[..., 2]).reshape(4, side, 4, side).mean((1, 3))
    assert np.unravel_index(warm.argmax(), warm.shape) == (1, 3)
    with Image.open(tmp_path / "out" / f"{rank:02d}-unit-0-crop.png") as opened:
        assert np.asarray(opened.convert("L")).max() > 240
    with pytest.raises(FolderInUseError, match="is not an empty folder"):
        write_pictures(model.transform, found, tmp_path / "out")
    with pytest.raises(InputError, match="most must be at least 1, not 0"):
        write_pictures(model.transform, found, tmp_path / "other", most=0)


def test_an_unknown_transform_gives_maps_but_no_crops(tmp_path: Path) -> None:
    known = loaded(Corner())

    def own(image: Image.Image) -> torch.Tensor:
        return known.transform(image)

    model = LoadedModel(known.module, own, known.class_names, "own", known.input_size)
    view = seen(own, corner((0, 0)))
    assert "transform 'own'" in view.why_not
    assert np.asarray(view.picture).max() == 255
    files = write_pictures(own, examined(model, corner((0, 0))), tmp_path / "out")
    assert not [path for path in files if "crop" in path.name]
    assert len(files) == 2 * 2 + 1
    with pytest.raises(InputError, match=r"gives no \(1 or 3, H, W\) tensor"):
        seen(lambda image: known.transform(image)[None], corner((0, 0)))


def test_what_the_network_saw_is_its_crop() -> None:
    wide = Image.new("RGB", (40, 20), "red")
    wide.paste("blue", (10, 0, 30, 20))
    view = seen(Preprocessing((3, 20, 20), (0.5,) * 3, (0.5,) * 3), wide)
    assert view.why_not is None
    assert np.asarray(view.picture).reshape(-1, 3).max(0).tolist() == [0, 0, 255]


def test_crops_stay_inside_and_hold_the_place() -> None:
    image = Image.fromarray(np.arange(100, dtype=np.uint8).reshape(10, 10)).convert("RGB")
    place = Place((0.9, 0.0, 1.0, 0.1), (0.95, 0.05), 1.0, 1.0)
    cut = np.asarray(crop(image, place, least=0.4))[..., 0]
    np.testing.assert_array_equal(cut, np.arange(100).reshape(10, 10)[:4, 6:])


def test_colour_scales_are_even_and_keep_blue_apart_from_yellow() -> None:
    weights = np.array([0.2126, 0.7152, 0.0722])
    light = sequential(np.linspace(0, 1, 9)) @ weights
    assert (np.diff(light) > 0).all()
    low, middle, high = diverging(np.array([-1.0, 0.0, 1.0]))
    assert low[2] - low[0] > 0.3
    assert high[0] - high[2] > 0.3
    assert middle.min() > 0.9
    np.testing.assert_allclose(diverging(np.array([5.0])), [high])


def test_maps_are_interpolated_between_the_centres_of_cells() -> None:
    fine = enlarged(np.array([[0.0, 1.0]]), (8, 1))
    np.testing.assert_allclose(fine[0], [0, 0, 0.125, 0.375, 0.625, 0.875, 1, 1], atol=1e-6)
