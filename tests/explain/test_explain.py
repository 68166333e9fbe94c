"""Explanations of competitive networks: winners by the mask, and sums that are exact."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from neuronym import lwta
from neuronym.errors import InputError, UnreadableError
from neuronym.explain import explain, explain_images
from neuronym.lwta import LWTA
from neuronym.models import LoadedModel
from neuronym.models.preprocessing import Preprocessing
from neuronym.results import Atlas, Explanation, SiteInfo, Unit

SIZE = 8


def unit(site: str, index: int, competitors: int | None) -> Unit:
    return Unit(
        site=site,
        unit=index,
        block=None if competitors is None else index // competitors,
        name=f"name {index}",
        score=0.5,
        p_value=None,
        runner_up_names=(),
        runner_up_scores=(),
        firing_rate=0.5,
        win_rate=None if competitors is None else 1 / competitors,
        top_images=(),
        top_activations=(),
    )


def atlas_of(*sites: SiteInfo, fingerprint: str) -> Atlas:
    units = tuple(unit(site.name, k, site.competitors) for site in sites for k in range(site.units))
    provenance = {"model": {"spec": "toy", "fingerprint": fingerprint}}
    return Atlas(sites=sites, units=units, images={}, provenance=provenance)


def loaded(module: nn.Module) -> LoadedModel:
    transform = Preprocessing(input_size=(3, SIZE, SIZE), mean=(0.5,) * 3, std=(0.25,) * 3)
    return LoadedModel(module, transform, ("cat", "dog", "ship"), "toy", (3, SIZE, SIZE))


def seeded(seed: int, *layers: nn.Module) -> nn.Sequential:
    """Give the layers weights of their own, without touching the global random state."""
    model = nn.Sequential(*layers)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(0.3 * torch.randn(weight.shape, generator=generator))
    return model


def linear_net() -> nn.Sequential:
    return seeded(
        1, nn.Flatten(), nn.Linear(3 * SIZE * SIZE, 24), LWTA(4, channel_dim=1), nn.Linear(24, 3)
    )


class Convolutional(nn.Module):
    """A competitive convolution, then linear maps and one later competition."""

    def __init__(self, *, later: bool) -> None:
        super().__init__()
        self.body = seeded(
            2,
            nn.Conv2d(3, 16, 3, padding=1),
            LWTA(8, channel_dim=1),
            nn.Conv2d(16, 12, 3, padding=1),
            nn.BatchNorm2d(12),
            LWTA(4, channel_dim=1) if later else nn.Identity(),
        )
        self.head = seeded(3, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


def picture(seed: int = 0) -> Image.Image:
    pixels = torch.randint(
        0, 256, (SIZE, SIZE, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8
    )
    return Image.fromarray(pixels.numpy())


def test_winners_are_those_of_the_mask_and_the_sum_is_exact() -> None:
    model = loaded(linear_net())
    site = SiteInfo("2", 24, 1, 4, "winner", 1)
    found = explain(model, picture(), atlas=atlas_of(site, fingerprint=model.fingerprint))
    z = model.module[1](model.module[0](model.transform(picture())[None]))[0]
    winners = z.view(6, 4).argmax(1) + 4 * torch.arange(6)
    assert sorted(winner.unit for winner in found.winners) == winners.tolist()
    assert abs(found.completeness_error) < 1e-5
    by_hand = z[winners] * model.module[3].weight[found.target.index][winners]
    total = sum(winner.contribution for winner in found.winners)
    assert total == pytest.approx(float(by_hand.detach().sum()), abs=1e-5)
    assert found.baseline == pytest.approx(float(model.module[3].bias[found.target.index].detach()))
    assert all(winner.name == f"name {winner.unit}" for winner in found.winners)
    sizes = [abs(winner.contribution) for winner in found.winners]
    assert sizes == sorted(sizes, reverse=True)


def test_a_winner_with_a_negative_response_is_listed_and_its_rivals_are_not() -> None:
    module = linear_net()
    with torch.no_grad():
        module[1].bias.fill_(-100.0)  # every response is negative: values cannot tell the winner
    model = loaded(module)
    site = SiteInfo("2", 24, 1, 4, "winner", 1)
    found = explain(model, picture(), atlas=atlas_of(site, fingerprint=model.fingerprint))
    assert len(found.winners) == 6
    assert len({winner.block for winner in found.winners}) == 6
    assert all(winner.activation < 0 for winner in found.winners)
    assert abs(found.completeness_error) < 1e-3


def test_a_convolution_is_exact_up_to_the_logit_and_has_one_image_winner_per_block() -> None:
    model = loaded(Convolutional(later=False))
    site = SiteInfo("body.1", 16, 1, 8, "mean", SIZE * SIZE)
    found = explain(model, picture(), atlas=atlas_of(site, fingerprint=model.fingerprint))
    assert abs(found.completeness_error) < 1e-4
    assert [w.block for w in found.winners if w.image_winner].count(0) == 1
    assert [w.block for w in found.winners if w.image_winner].count(1) == 1
    for block in (0, 1):
        rates = [w.win_rate for w in found.winners if w.block == block]
        assert sum(rates) == pytest.approx(1.0)
        best = max(
            (w for w in found.winners if w.block == block), key=lambda winner: winner.activation
        )
        assert best.image_winner


def test_a_later_competition_breaks_exactness_and_that_is_reported() -> None:
    model = loaded(Convolutional(later=True))
    site = SiteInfo("body.1", 16, 1, 8, "mean", SIZE * SIZE)
    found = explain(model, picture(), atlas=atlas_of(site, fingerprint=model.fingerprint))
    assert abs(found.completeness_error) > 1e-3
    total = sum(winner.contribution for winner in found.winners)
    assert found.target.logit == pytest.approx(found.baseline + total + found.completeness_error)


class Twice(nn.Module):
    """One competition that is asked twice, with other winners the second time."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.act = seeded(7, nn.Linear(3 * SIZE * SIZE, 16)), LWTA(4)
        self.second, self.head = seeded(8, nn.Linear(16, 16)), seeded(9, nn.Linear(16, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.act(self.second(self.act(self.first(x.flatten(1))))))


def test_each_call_of_a_module_has_winners_of_its_own() -> None:
    model = loaded(Twice())
    sites = [SiteInfo(name, 16, 1, 4, "winner", 1) for name in ("act", "act#1")]
    atlas = atlas_of(*sites, fingerprint=model.fingerprint)
    module, x = model.module, model.transform(picture())[None]
    z = module.first(x.flatten(1))
    later = module.second(module.act(z))
    expected = [(each.view(4, 4).argmax(1) + 4 * torch.arange(4)).tolist() for each in (z, later)]
    assert expected[0] != expected[1]
    for site, winners, values in zip(sites, expected, (z, later), strict=True):
        found = explain(model, picture(), atlas=atlas, site=site.name)
        assert sorted(winner.unit for winner in found.winners) == winners
        assert {w.unit: pytest.approx(w.activation) for w in found.winners} == {
            unit: float(values[0, unit].detach()) for unit in winners
        }


def test_the_pass_without_the_site_is_not_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    model, traces, real = loaded(Twice()), [], lwta.trace

    @contextlib.contextmanager
    def noted(module: nn.Module, *, keep: Sequence[str]) -> Iterator[lwta.Trace]:
        with real(module, keep=keep) as trace:
            traces.append(trace)
            yield trace

    monkeypatch.setattr(lwta, "trace", noted)
    site = SiteInfo("act", 16, 1, 4, "winner", 1)
    explain(model, picture(), atlas=atlas_of(site, fingerprint=model.fingerprint))
    assert [len(trace) for trace in traces] == [2]  # the two calls of one pass


def test_dense_sites_list_the_units_that_fired() -> None:
    model = loaded(
        seeded(4, nn.Flatten(), nn.Linear(3 * SIZE * SIZE, 10), nn.ReLU(), nn.Linear(10, 3))
    )
    site = SiteInfo("2", 10, 1, None, "mean", 1)
    found = explain(model, picture(), atlas=atlas_of(site, fingerprint=model.fingerprint))
    fired = model.module[:3](model.transform(picture())[None])[0] > 0
    assert sorted(winner.unit for winner in found.winners) == fired.nonzero()[:, 0].tolist()
    assert not found.competitive
    assert all(winner.block is None and winner.win_rate is None for winner in found.winners)


def test_a_batch_gives_the_same_as_one_by_one() -> None:
    model = loaded(Convolutional(later=False))
    atlas = atlas_of(
        SiteInfo("body.1", 16, 1, 8, "mean", SIZE * SIZE), fingerprint=model.fingerprint
    )
    pictures = [picture(seed) for seed in range(3)]
    together = explain_images(model, pictures, atlas=atlas, target="dog")
    for one, image in zip(together, pictures, strict=True):
        alone = explain(model, image, atlas=atlas, target=1)
        assert alone.target.name == "dog"
        assert [w.unit for w in alone.winners] == [w.unit for w in one.winners]
        assert alone.target.logit == pytest.approx(one.target.logit, abs=1e-5)


def test_a_batch_takes_images_of_any_mode_and_names_them(tmp_path: Path) -> None:
    """Deep grey is scaled to 8 bit as it is for one image; it is not clipped to white."""
    model = loaded(Convolutional(later=False))
    site = SiteInfo("body.1", 16, 1, 8, "mean", SIZE * SIZE)
    atlas = atlas_of(site, fingerprint=model.fingerprint)
    ramp = np.linspace(0, 65535, SIZE * SIZE).reshape(SIZE, SIZE)
    deep = Image.fromarray(ramp.astype(np.uint16))
    assert deep.mode == "I;16"
    clear = picture().convert("RGBA")
    clear.putalpha(40)
    path = tmp_path / "scene.png"
    picture(2).save(path)
    found = explain_images(model, [deep, clear, path], atlas=atlas)
    assert [each.image for each in found] == ["image 0", "image 1", str(path)]
    for one, image in zip(found, (deep, clear, path), strict=True):
        alone = explain(model, image, atlas=atlas, target=one.target.index)
        assert alone.target.logit == pytest.approx(one.target.logit, abs=1e-5)


def test_explanations_are_deterministic_and_survive_a_save(tmp_path: Path) -> None:
    model = loaded(linear_net())
    model.module.train()  # an explanation uses evaluation mode and puts the mode back
    atlas = atlas_of(SiteInfo("2", 24, 1, 4, "winner", 1), fingerprint=model.fingerprint)
    random = torch.random.get_rng_state()
    first = explain(model, picture(), atlas=atlas)
    assert explain(model, picture(), atlas=atlas) == first
    assert model.module.training
    assert torch.equal(torch.random.get_rng_state(), random)
    first.save(tmp_path / "explanation.json")
    assert Explanation.load(tmp_path / "explanation.json") == first


def test_samples_say_how_sure_an_explanation_is(tmp_path: Path) -> None:
    """Against a plain loop over the same draws."""
    model = loaded(linear_net())
    atlas = atlas_of(SiteInfo("2", 24, 1, 4, "winner", 1), fingerprint=model.fingerprint)
    random = torch.random.get_rng_state()
    found = explain(model, picture(), atlas=atlas, samples=5, seed=7)
    assert torch.equal(torch.random.get_rng_state(), random)
    assert found.sampled is not None
    plain = explain(model, picture(), atlas=atlas)
    assert plain.sampled is None
    assert [w.unit for w in plain.winners] == [w.unit for w in found.winners]
    x = model.transform(picture())[None]
    torch.manual_seed(7)
    probabilities, wins, values = [], [], []
    with torch.no_grad(), lwta.sampling(model.module):
        for _ in range(5):
            with lwta.trace(model.module, keep="winners") as record:
                logits = model.module(x).double()
            probabilities.append(logits.softmax(1)[0, found.target.index])
            wins.append(record[0].mask[0].double())
            z = model.module[1](model.module[0](x))[0]
            values.append(z * record[0].mask[0] * model.module[3].weight[found.target.index])
    torch.random.set_rng_state(random)
    chance = torch.stack(probabilities)
    assert found.sampled.probability_mean == pytest.approx(float(chance.mean()), abs=1e-6)
    assert found.sampled.probability_spread == pytest.approx(float(chance.std()), abs=1e-6)
    for winner in found.winners:
        assert winner.sample_wins == pytest.approx(float(torch.stack(wins).mean(0)[winner.unit]))
        assert winner.sample_win_rate == winner.sample_wins  # there is one position
        each = torch.stack(values).double()[:, winner.unit]
        assert winner.contribution_mean == pytest.approx(float(each.mean()), abs=1e-6)
        assert winner.contribution_spread == pytest.approx(float(each.std()), abs=1e-6)
    assert explain(model, picture(), atlas=atlas, samples=5, seed=7) == found
    assert explain(model, picture(), atlas=atlas, samples=5, seed=8) != found
    found.save(tmp_path / "explanation.json")
    assert Explanation.load(tmp_path / "explanation.json") == found


def test_sampled_contributions_take_later_winners_as_fixed() -> None:
    model = loaded(Convolutional(later=True))
    site = SiteInfo("body.1", 16, 1, 8, "mean", SIZE * SIZE)
    atlas = atlas_of(site, fingerprint=model.fingerprint)
    with torch.no_grad():  # so sure that every draw is the largest unit
        model.module.body[0].weight.mul_(1000)
        model.module.body[3].weight.fill_(1000)
    atlas = atlas_of(site, fingerprint=loaded(model.module).fingerprint)
    found = explain(loaded(model.module), picture(), atlas=atlas, samples=3)
    for winner in found.winners:
        assert winner.sample_win_rate == pytest.approx(winner.win_rate, abs=0.05)
        assert winner.contribution_mean == pytest.approx(winner.contribution, rel=0.1, abs=500)


def test_samples_of_a_dense_model_are_refused() -> None:
    model = loaded(seeded(4, nn.Flatten(), nn.Linear(3 * SIZE * SIZE, 10), nn.ReLU()))
    atlas = atlas_of(SiteInfo("2", 10, 1, None, "mean", 1), fingerprint=model.fingerprint)
    with pytest.raises(InputError, match="nothing to sample"):
        explain(model, picture(), atlas=atlas, samples=3)
    competing = loaded(linear_net())
    atlas = atlas_of(SiteInfo("2", 24, 1, 4, "winner", 1), fingerprint=competing.fingerprint)
    with pytest.raises(InputError, match="samples must be an int of at least 2, not 1"):
        explain(competing, picture(), atlas=atlas, samples=1)


def test_bad_input_names_what_is_allowed(tmp_path: Path) -> None:
    model = loaded(linear_net())
    atlas = atlas_of(SiteInfo("2", 24, 1, 4, "winner", 1), fingerprint=model.fingerprint)
    with pytest.raises(InputError, match="no class 'shp'; nearest: ship"):
        explain(model, picture(), atlas=atlas, target="shp")
    with pytest.raises(InputError, match="must be 0 to 2, not 7"):
        explain(model, picture(), atlas=atlas, target=7)
    with pytest.raises(InputError, match="no site 'fc'"):
        explain(model, picture(), atlas=atlas, site="fc")
    other = atlas_of(SiteInfo("2", 24, 1, 4, "winner", 1), fingerprint="0" * 16)
    with pytest.raises(InputError, match="another model"):
        explain(model, picture(), atlas=other)
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff\xe0 not an image")
    with pytest.raises(UnreadableError, match=r"broken\.jpg"):
        explain(model, broken, atlas=atlas)
