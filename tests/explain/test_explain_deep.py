"""Runner-ups, real effects, several sites and two classes: against literal loops by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from explain.test_explain import SIZE, Convolutional, atlas_of, linear_net, loaded, picture
from neuronym import lwta
from neuronym.errors import InputError, UnreadableError
from neuronym.explain import ExplainOptions, examine, explain, explain_images, explain_sites
from neuronym.explain.runner_up import seconds
from neuronym.models import Change, LoadedModel, Preprocessing, apply
from neuronym.models.small import cifar_inverted, cifar_resnet
from neuronym.results import Atlas, Explanation, SiteInfo
from reference.explain import runner_ups

LINEAR = SiteInfo("2", 24, 1, 4, "winner", 1)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def competing(z: Tensor, competitors: int) -> Tensor:
    best = z.view(-1, competitors, z.shape[1]).argmax(1, keepdim=True)
    mask = torch.zeros_like(z, dtype=torch.bool).view(-1, competitors, z.shape[1])
    return mask.scatter_(1, best, True).view_as(z)


@pytest.mark.parametrize("sizes", [(8, 2, 1), (24, 4, 9), (48, 24, 5)])
def test_runner_ups_are_those_of_a_literal_search(sizes: tuple[int, int, int]) -> None:
    units, competitors, positions = sizes
    z = torch.randn(units, positions, generator=generator(units))
    gradient = torch.randn(units, positions, generator=generator(positions))
    found = seconds(z, competing(z, competitors), gradient, competitors=competitors)
    expected = runner_ups(z, gradient, competitors)
    assert len(expected) >= units // competitors
    for unit, row in expected.items():
        assert int(found.unit[unit]) == row["unit"]
        assert float(found.share[unit]) == pytest.approx(row["share"])
        assert float(found.response[unit]) == pytest.approx(row["response"], abs=1e-6)
        assert float(found.change[unit]) == pytest.approx(row["change"], abs=1e-6)


def test_a_rival_at_minus_infinity_passes_nothing() -> None:
    z = torch.tensor([[2.0], [-torch.inf]])
    found = seconds(z, torch.tensor([[True], [False]]), torch.ones(2, 1), competitors=2)
    assert float(found.change[0]) == -2.0
    assert float(found.response[0]) == 0.0


def test_on_a_linear_path_linear_changes_are_the_real_ones() -> None:
    model = loaded(linear_net())
    atlas = atlas_of(LINEAR, fingerprint=model.fingerprint)
    found = explain(model, picture(), atlas=atlas, options=ExplainOptions(causal=4))
    for place, winner in enumerate(found.winners):
        assert winner.runner_up is not None
        assert winner.runner_up.name == f"name {winner.runner_up.unit}"
        assert winner.runner_up.unit // 4 == winner.block
        if place >= 4:
            assert winner.effect_silenced is None
            continue
        assert winner.effect_silenced == pytest.approx(-winner.contribution, abs=1e-5)
        assert winner.effect_handed_over == pytest.approx(winner.runner_up.change, abs=1e-5)


def test_real_effects_are_those_of_the_network_changed_by_hand() -> None:
    """Through a later competition, where the linear estimate is not exact."""
    model = loaded(Convolutional(later=True))
    atlas = atlas_of(SiteInfo("body.1", 16, 1, 8, "mean", SIZE**2), fingerprint=model.fingerprint)
    many = ExplainOptions(causal=99)
    found = explain(model, picture(), atlas=atlas, target=0, against=2, options=many)
    body, head = model.module.body, model.module.head
    differs = 0.0
    with torch.no_grad():
        z = body[0](model.transform(picture())[None])

        def rest(y: Tensor) -> float:
            logits = head(body[4](body[3](body[2](y)))).double()[0]
            return float(logits[0] - logits[2])

        usual = rest(body[1](z))
        assert found.explained == pytest.approx(usual, abs=1e-5)
        for winner in found.winners:
            silenced = body[1](z)
            silenced[:, winner.unit] = 0
            without = z.clone()
            without[:, winner.unit] = -1e9
            assert winner.effect_silenced == pytest.approx(rest(silenced) - usual, abs=1e-5)
            handed = rest(body[1](without)) - usual
            assert winner.effect_handed_over == pytest.approx(handed, abs=1e-5)
            differs = max(differs, abs(winner.effect_handed_over - winner.runner_up.change))
    assert differs > 1e-3  # the estimate and the real effect are told apart


def test_dense_units_are_silenced_only() -> None:
    model = loaded(nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE**2, 10), nn.ReLU()))
    atlas = atlas_of(SiteInfo("2", 10, 1, None, "mean", 1), fingerprint=model.fingerprint)
    model = replace(model, class_names=None)
    found = explain(model, picture(), atlas=atlas, options=ExplainOptions(causal=2))
    first = found.winners[0]
    assert first.effect_silenced == pytest.approx(-first.contribution, abs=1e-5)
    assert first.effect_handed_over is None
    assert first.runner_up is None


def test_why_one_class_and_not_another() -> None:
    model = loaded(linear_net())
    atlas = atlas_of(LINEAR, fingerprint=model.fingerprint)
    found = explain(model, picture(), atlas=atlas, target="cat", against="Ship")
    assert found.against is not None
    assert (found.target.name, found.against.name) == ("cat", "ship")
    cat, ship = (explain(model, picture(), atlas=atlas, target=name) for name in ("cat", "ship"))
    of = [{w.unit: w.contribution for w in each.winners} for each in (cat, ship)]
    assert {w.unit: pytest.approx(w.contribution, abs=1e-5) for w in found.winners} == {
        unit: of[0][unit] - of[1][unit] for unit in of[0]
    }
    assert found.explained == pytest.approx(cat.target.logit - ship.target.logit, abs=1e-6)
    assert found.baseline == pytest.approx(cat.baseline - ship.baseline, abs=1e-5)
    assert abs(found.completeness_error) < 1e-5
    drawn = explain(model, picture(), atlas=atlas, target="cat", against="ship", samples=3)
    assert drawn.sampled is not None
    alone = [explain(model, picture(), atlas=atlas, target=n, samples=3) for n in ("cat", "ship")]
    assert drawn.sampled.logit_mean == pytest.approx(
        alone[0].sampled.logit_mean - alone[1].sampled.logit_mean, abs=1e-5
    )
    with pytest.raises(InputError, match="no class 'shop'; nearest: ship"):
        explain(model, picture(), atlas=atlas, against="shop")
    with pytest.raises(InputError, match="class 0 minus itself"):
        explain(model, picture(), atlas=atlas, target="cat", against=0)


def two_sites(model: LoadedModel) -> Atlas:
    first = SiteInfo("body.1", 16, 1, 8, "mean", SIZE**2)
    second = SiteInfo("body.4", 12, 1, 4, "mean", SIZE**2)
    return atlas_of(first, second, fingerprint=model.fingerprint)


def same(one: Explanation, other: Explanation) -> None:
    assert [winner.unit for winner in one.winners] == [winner.unit for winner in other.winners]
    for mine, its in zip(one.winners, other.winners, strict=True):
        assert mine.contribution == pytest.approx(its.contribution, abs=1e-5)
        assert mine.runner_up.change == pytest.approx(its.runner_up.change, abs=1e-5)
        assert mine.win_rate == its.win_rate
        assert mine.place.box == its.place.box
    assert one.baseline == pytest.approx(other.baseline, abs=1e-5)
    assert one.completeness_error == pytest.approx(other.completeness_error, abs=1e-5)


@pytest.mark.parametrize("sites", ["all", "body*", "body.4,body.1", ["body.1", "body.4"]])
def test_several_sites_in_one_go_are_each_as_if_alone(sites: str | Sequence[str]) -> None:
    model = loaded(Convolutional(later=True))
    atlas = two_sites(model)
    found = explain_sites(model, picture(), atlas=atlas, sites=sites)
    assert [each.site for each in found] == ["body.1", "body.4"]
    for each in found:
        same(each, explain(model, picture(), atlas=atlas, site=each.site))
    assert found[0].completeness_error != 0
    assert abs(found[1].completeness_error) < 1e-5


def test_several_sites_take_one_traced_pass_and_one_without_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = loaded(Convolutional(later=True))
    calls: list[int] = []
    handle = model.module.register_forward_pre_hook(lambda _, args: calls.append(len(args[0])))
    explain_sites(model, picture(), atlas=two_sites(model))
    assert calls == [1, 2]
    calls.clear()
    explain_sites(model, picture(), atlas=two_sites(model), samples=3)
    assert calls == [1, 2, 1, 1, 1]
    handle.remove()


def test_samples_of_several_sites_are_the_same_draws() -> None:
    model = loaded(Convolutional(later=True))
    atlas = two_sites(model)
    together = explain_sites(model, picture(), atlas=atlas, samples=4, seed=3)
    for each in together:
        alone = explain(model, picture(), atlas=atlas, site=each.site, samples=4, seed=3)
        assert each.sampled.logit_mean == pytest.approx(alone.sampled.logit_mean, abs=1e-5)
        for mine, its in zip(each.winners, alone.winners, strict=True):
            assert mine.sample_win_rate == its.sample_win_rate
            assert mine.contribution_mean == pytest.approx(its.contribution_mean, abs=1e-5)


def test_what_the_atlas_knows_of_a_name_is_passed_on() -> None:
    model = loaded(linear_net())
    atlas = atlas_of(LINEAR, fingerprint=model.fingerprint)
    lost = {"name": None, "score": 0.1, "unnamed": "not significant"}
    units = [replace(unit, p_value=0.25, q_value=0.5, **lost) for unit in atlas.units]
    units[0] = replace(units[0], runner_up_names=("fog", "sea"), runner_up_scores=(0.1, 0.05))
    found = explain(model, picture(), atlas=replace(atlas, units=tuple(units)))
    for winner in found.winners:
        assert (winner.p_value, winner.q_value) == (0.25, 0.5)
        assert (winner.name, winner.unnamed) == (None, "not significant")
        assert winner.candidate == ("fog" if winner.unit == 0 else None)
        assert winner.runner_up.name is None


def real(name: str, module: nn.Module, competitors: int) -> tuple[LoadedModel, list[SiteInfo]]:
    size = (3, 32, 32)
    with torch.random.fork_rng():
        torch.manual_seed(4)
        for part in module.modules():
            if isinstance(part, (nn.BatchNorm2d, nn.BatchNorm1d)):
                part.running_mean.normal_(0, 0.2)
                part.running_var.uniform_(0.5, 2)
    net, _ = lwta.convert(module, competitors, example=size)
    transform = Preprocessing(size, (0.5,) * 3, (0.25,) * 3)
    model = LoadedModel(net, transform, None, name, size)
    with lwta.trace(net, keep=()) as trace, torch.no_grad():
        net(torch.zeros(1, *size))
    sites = [
        SiteInfo(each.name, each.shape[1], 1, competitors, "winner", each.positions)
        for each in trace
    ]
    return model, sites


@pytest.mark.parametrize("make", [cifar_resnet, cifar_inverted])
def test_the_last_site_of_real_networks_is_additive(make: object) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        module = make()  # type: ignore[operator]
    model, sites = real("net", module, 8)
    atlas = atlas_of(*sites, fingerprint=model.fingerprint)
    images = [
        Image.fromarray(torch.randint(0, 256, (32, 32, 3), generator=generator(k)).byte().numpy())
        for k in range(4)
    ]
    last = sites[-1].name
    for found in explain_images(model, images, atlas=atlas, site=last, target=1, against=3):
        assert len(found.winners) > sites[-1].units // 8
        assert abs(found.completeness_error) < 1e-4
        assert abs(found.explained - found.baseline) > 1e-3
    for found in explain_images(model, images[:1], atlas=atlas, site=sites[0].name):
        assert abs(found.completeness_error) > 1e-4  # later competitions: told, not hidden


def test_bad_input_is_refused_with_the_next_step(tmp_path: Path) -> None:
    model = loaded(Convolutional(later=True))
    atlas = two_sites(model)
    with pytest.raises(InputError, match=r"no site 'bodi\.1'; nearest: body\.1"):
        explain_sites(model, picture(), atlas=atlas, sites="body.1,bodi.1")
    with pytest.raises(InputError, match=r"no site 'head\*'"):
        explain_sites(model, picture(), atlas=atlas, sites="head*")
    with pytest.raises(InputError, match="no site in ','"):
        explain_sites(model, picture(), atlas=atlas, sites=",")
    with pytest.raises(InputError, match="causal must be an int of at least 0, not -1"):
        ExplainOptions(causal=-1)
    with pytest.raises(InputError, match="top_predictions must be an int of at least 1, not 0"):
        ExplainOptions(top_predictions=0)
    text = tmp_path / "note.txt"
    text.write_text("not an image")
    with pytest.raises(UnreadableError, match=r"note\.txt' is not in a known image format"):
        explain(model, text, atlas=atlas)
    with pytest.raises(UnreadableError, match="cannot be read: Is a directory"):
        explain(model, tmp_path, atlas=atlas)


@pytest.mark.parametrize("kind", ["animated.gif", "cmyk.jpg", "deep.png"])
def test_unusual_images_are_explained_like_their_plain_form(kind: str, tmp_path: Path) -> None:
    model, path = loaded(linear_net()), tmp_path / kind
    atlas = atlas_of(LINEAR, fingerprint=model.fingerprint)
    if kind == "animated.gif":
        frames = [picture(seed).quantize(16) for seed in (0, 1)]
        frames[0].save(path, save_all=True, append_images=frames[1:])
        plain = frames[0].convert("RGB")
    elif kind == "cmyk.jpg":
        picture().convert("CMYK").save(path, quality=100)
        plain = Image.open(path).convert("RGB")
    else:
        deep = (torch.arange(SIZE * SIZE).view(SIZE, SIZE) * 1000).numpy().astype("uint16")
        Image.fromarray(deep).save(path)
        plain = Image.fromarray((deep / 65535 * 255 + 0.5).astype("uint8")).convert("RGB")
    found = explain(model, path, atlas=atlas)
    assert replace(found, image="image") == explain(model, plain, atlas=atlas)
    assert len(found.winners) == 6


def test_examinations_keep_the_numbers_behind() -> None:
    model = loaded(Convolutional(later=False))
    atlas = atlas_of(SiteInfo("body.1", 16, 1, 8, "mean", SIZE**2), fingerprint=model.fingerprint)
    (found,) = examine(model, picture(), atlas=atlas)
    assert found.explanation == explain(model, picture(), atlas=atlas)
    for winner in found.explanation.winners:
        seen = found.position_map(winner.unit)
        assert seen.values.shape == (SIZE, SIZE)
        assert float(seen.contribution.sum()) == pytest.approx(winner.contribution, abs=1e-4)
        assert float(seen.values.sum()) == pytest.approx(winner.activation, abs=1e-3)
    with pytest.raises(InputError, match="units 0 to 15, not 16"):
        found.position_map(16)


@pytest.mark.parametrize("action", ["hand_over", "silence", "force", "heir"])
def test_real_effects_on_a_network_that_is_edited_already(action: str) -> None:
    """Also where no other unit of a block could pass, or where all others pass nothing."""
    plain = loaded(linear_net())
    with torch.no_grad():
        wins = plain.module[:3](plain.transform(picture())[None])[0].view(6, 4)
    unit = int(wins[0].abs().argmax())  # the one of block 0 that wins and stays
    rest = tuple(each for each in range(4) if each != unit)
    change = {
        "force": Change("2", (unit,), "force"),
        "heir": Change("2", rest, "hand_over", to=unit),
    }.get(action) or Change("2", rest, action)
    model = apply(plain, change)
    atlas = atlas_of(LINEAR, fingerprint=model.fingerprint)
    found = explain(model, picture(), atlas=atlas, options=ExplainOptions(causal=24))
    assert {winner.block for winner in found.winners} == set(range(6))
    for winner in found.winners:
        assert winner.effect_silenced == pytest.approx(-winner.contribution, abs=1e-5)
        if winner.block:
            assert winner.effect_handed_over is not None
        elif action == "silence":  # who passes instead passes zero
            assert winner.effect_handed_over == pytest.approx(-winner.contribution, abs=1e-5)
        else:
            assert winner.effect_handed_over is None
