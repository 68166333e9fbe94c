"""Faithfulness: curves by hand and by a literal twin, at every kind of site."""

from __future__ import annotations

import math
from xml.etree import ElementTree

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from evaluate.faithful_nets import (
    Tokens,
    conv_net,
    linear_net,
    loaded,
    pictures,
    seeded,
    site,
)
from neuronym import probes
from neuronym.errors import InputError, UnknownNameError
from neuronym.evaluate import FaithfulnessOptions, faithfulness
from neuronym.evaluate.curves import area, plan, removal_counts
from neuronym.evaluate.intervals import Wanted, metrics_of
from neuronym.files import read_json
from neuronym.lwta import LWTA
from neuronym.models import LoadedModel
from neuronym.record import find_sites
from reference import faithfulness as literal

FEW = FaithfulnessOptions(steps=6, random_orders=2, fractions=(0.1, 0.5), workers=0, draws=100)


def test_counts_go_from_none_to_all_and_read_the_same_backwards() -> None:
    for winners in (1, 2, 5, 19, 20, 21, 37, 400):
        for steps in (2, 3, 6, 20):
            counts = removal_counts(winners, steps)
            assert counts.tolist() == literal.counts(winners, steps)
            assert counts[0] == 0
            assert counts[-1] == winners
            assert (winners - counts[::-1] == counts).all()
            assert len(counts) <= steps + 2
    assert removal_counts(5, 20).tolist() == [0, 1, 2, 3, 4, 5]


def test_area_by_hand() -> None:
    shares = np.array([0.0, 0.25, 1.0])
    assert area(shares, np.array([1.0, 0.5, 0.0])) == pytest.approx(0.25 * 0.75 + 0.75 * 0.25)
    assert area(shares, np.ones((2, 3))).tolist() == [1.0, 1.0]


def test_a_plan_keeps_the_strongest_and_reads_its_own_rows() -> None:
    strengths = np.array([0.0, 3.0, 9.0, -1.0, 3.0, 7.0])
    laid = plan(
        strengths,
        np.array([1, 3, 4, 5]),
        steps=4,
        random_orders=2,
        fractions=(0.01, 0.5),
        seed=(0, 7),
    )
    assert laid.orders[0].tolist() == [5, 1, 4, 3]  # unit 2 did not win; equals by their index
    assert laid.kept.tolist() == [1, 2]  # rounded up
    keeps = laid.keeps(6)
    assert keeps[0].tolist() == [False, True, False, True, True, True]
    assert not keeps[1].any()
    passed = laid.read(keeps @ 10.0 ** np.arange(6))  # a number that names the units
    assert passed.deletion.tolist() == [111010, 11010, 11000, 1000, 0]
    assert passed.insertion.tolist() == [0, 100000, 100010, 110010, 111010]
    assert passed.kept.tolist() == [100000, 100010]
    for order, curve in zip(laid.orders[1:], passed.random, strict=True):
        assert curve[1] == 111010 - 10 ** int(order[0])
        assert curve[-2] == 10 ** int(order[-1])


def test_a_linear_head_has_areas_in_closed_form() -> None:
    module = linear_net()
    model = loaded(module)
    images = pictures(4)
    found = faithfulness(model, images, [site("2", 24)], options=FEW)["2"]
    for row in range(4):
        z = module[1](module[0](model.transform(images.image(row))[None]))[0]
        winners = z.view(6, 4).argmax(1) + 4 * torch.arange(6)
        logits = module[3].bias + module[3].weight[:, winners] @ z[winners]
        target = int(logits.argmax())
        parts = (module[3].weight[target][winners] * z[winners]).double().detach().numpy()
        parts = np.sort(parts)[::-1]
        # Removing m of n leaves Σ_{i > m}: the trapezoids weigh the i-th largest (i − ½) / n.
        closed = float(parts @ ((np.arange(6) + 0.5) / 6))
        assert found.table["deletion_logit"][row] == pytest.approx(closed, abs=1e-5)
        closed = float(parts @ ((5.5 - np.arange(6)) / 6))
        assert found.table["insertion_logit"][row] == pytest.approx(closed, abs=1e-5)
        assert found.table["logit_drop"][row] == pytest.approx(parts.sum(), abs=1e-5)
        assert found.table["winners"][row] == 6


def test_equal_contributions_make_every_order_alike() -> None:
    module = linear_net()
    with torch.no_grad():
        module[1].weight.zero_()
        module[1].bias.copy_(torch.arange(24) % 4 == 1)  # unit 1 of each block wins with 1
        module[3].weight.copy_(torch.tensor([[0.5], [0.1], [-0.2]]).expand(3, 24))
    result = faithfulness(loaded(module), pictures(20), [site("2", 24)], options=FEW)
    rows = {row.name.partition("/")[0]: row for row in result.metrics()[0]}
    for name in ("deletion_ratio", "insertion_ratio", "deletion_logit_ratio"):
        assert rows[f"faithfulness.{name}"].value == pytest.approx(1.0, abs=1e-6)
    assert rows["faithfulness.deletion_logit_area"].value == pytest.approx(0.5, abs=1e-6)


CASES = {
    "linear": (linear_net, "2", 24, 1, 4),
    "conv, later competition": (conv_net, "1", 16, 1, 8),
    "dense conv, in place": (lambda: conv_net(later=False), "4", 12, 1, None),
    "before a ReLU in place": (lambda: conv_net(later=False), "1", 16, 1, 8),
    "tokens": (Tokens, "mid.1", 20, -1, 5),
}


@pytest.mark.parametrize("case", list(CASES))
def test_areas_are_the_literal_ones(case: str) -> None:
    make, name, units, channel_dim, competitors = CASES[case]
    model = loaded(make())
    images = pictures(3, seed=3)
    result = faithfulness(
        model, images, [site(name, units, channel_dim, competitors)], options=FEW
    )[name]
    twin = literal.Twin(model.module, name, channel_dim)
    winners_seen = set()
    for row in range(3):
        image = model.transform(images.image(row))
        logits = twin.logits(image, [])
        target = logits.index(max(logits))
        given = twin.contributions(image, target)
        winners = [unit for unit in range(units) if given[unit] != 0]
        winners_seen.add(len(winners))
        order = sorted(winners, key=lambda unit: (-given[unit], unit))
        areas = literal.deletion(twin, image, order, target, FEW.steps)
        assert result.table["winners"][row] == len(winners)
        assert result.table["deletion_probability"][row] == pytest.approx(areas[0], abs=2e-5)
        assert result.table["deletion_logit"][row] == pytest.approx(areas[1], abs=2e-4)
        areas = literal.insertion(twin, image, order, target, FEW.steps)
        assert result.table["insertion_probability"][row] == pytest.approx(areas[0], abs=2e-5)
        assert result.table["insertion_logit"][row] == pytest.approx(areas[1], abs=2e-4)
        generator = np.random.default_rng([FEW.seed, row])
        shuffled = [generator.permutation(winners).tolist() for _ in range(FEW.random_orders)]
        areas = [literal.deletion(twin, image, each, target, FEW.steps) for each in shuffled]
        random = math.fsum(each[0] for each in areas) / len(areas)
        assert result.table["random_probability"][row] == pytest.approx(random, abs=2e-5)
        for index, fraction in enumerate(FEW.fractions):
            kept = order[: math.ceil(fraction * len(order))]
            left = twin.probability(image, sorted(set(winners) - set(kept)), target)
            column = result.table[f"probability_kept_{index}"]
            assert column[row] == pytest.approx(left, abs=2e-5)
    assert max(winners_seen) > 4
    assert result.competitive == (competitors is not None)


def test_a_winner_below_zero_counts_and_a_loser_does_not() -> None:
    module = linear_net()
    with torch.no_grad():
        module[1].bias.fill_(-100.0)
    found = faithfulness(loaded(module), pictures(2), [site("2", 24)], options=FEW)["2"]
    assert found.table["winners"].tolist() == [6, 6]
    assert found.competitive


def test_the_expectation_has_no_losers() -> None:
    module = linear_net()
    module[2].mode = "expected"
    found = faithfulness(loaded(module), pictures(2), [site("2", 24)], options=FEW)["2"]
    assert found.table["winners"].tolist() == [24, 24]
    assert not found.competitive


def test_the_second_call_of_a_module() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            net = linear_net()
            self.start, self.act, self.head = net[:2], net[2], net[3]
            self.mid = seeded(7, nn.Linear(24, 24))

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.act(self.mid(self.act(self.start(x)))))

    model = loaded(Twice())
    sites = find_sites(model.module, "act", torch.zeros(2, 3, 8, 8), competitive=("act",))
    assert [each.name for each in sites] == ["act", "act#1"]
    result = faithfulness(model, pictures(2), sites, options=FEW)
    z = model.module.mid(model.module.act(model.module.start(_inputs(model, 1))))
    second = model.module.head(model.module.act(z))
    whole = float(second.max().detach())
    assert result["act#1"].table["logit"][0] == pytest.approx(whole, abs=1e-4)
    bare = float(model.module.head.bias[int(second.argmax())].detach())
    first, then = (result[name].table["logit_without"][0] for name in ("act", "act#1"))
    assert then == pytest.approx(bare, abs=1e-6)  # after it: linear
    assert abs(first - bare) > 1e-3


def _inputs(model: LoadedModel, count: int) -> Tensor:
    images = pictures(2)
    return torch.stack([model.transform(images.image(row)) for row in range(count)])


def test_the_result_depends_on_neither_batches_nor_the_company() -> None:
    model = loaded(conv_net())
    images = pictures(5)
    options = FaithfulnessOptions(steps=6, random_orders=2, workers=0, batch_size=3)
    small = faithfulness(model, images, [site("1", 16)], options=options)["1"]
    wide = faithfulness(model, images, [site("4", 12), site("1", 16)], options=FEW)["1"]
    for name in ("deletion_probability", "random_probability", "insertion_logit"):
        assert small.table[name] == pytest.approx(wide.table[name], abs=1e-4)


def test_orders_differ_and_the_curves_share_their_ends() -> None:
    model = loaded(conv_net())
    areas = {}
    for order in ("signed", "magnitude", "activation"):
        options = FaithfulnessOptions(order=order, steps=6, workers=0, draws=100)
        found = faithfulness(model, pictures(6), [site("1", 16)], options=options)["1"]
        areas[order] = found.table["deletion_logit"].mean()
        for kind in ("probability", "logit"):
            assert found.curves[f"deletion_{kind}"][[0, -1]] == pytest.approx(
                found.curves[f"random_{kind}"][[0, -1]]
            )
            assert found.curves[f"insertion_{kind}"][[0, -1]] == pytest.approx(
                found.curves[f"random_{kind}"][[-1, 0]]
            )
    assert areas["signed"] < areas["magnitude"]
    assert areas["signed"] < areas["activation"]


def test_normalised_curves_go_from_one_to_zero() -> None:
    model = loaded(linear_net())
    found = faithfulness(model, pictures(6), [site("2", 24)], options=FEW)["2"]
    curve = found.normalised("deletion")
    assert curve[[0, -1]].tolist() == pytest.approx([1.0, 0.0])
    assert found.normalised("insertion") == pytest.approx(1 - curve, abs=1e-5)  # a linear head
    with torch.no_grad():
        model.module[3].weight.mul_(-1)
        model.module[3].bias.copy_(torch.tensor([50.0, 0.0, 0.0]))
        model.module[3].weight[0].copy_(-model.module[3].weight[0].abs())
        model.module[1].bias.fill_(5.0)
    found = faithfulness(model, pictures(2), [site("2", 24)], options=FEW)["2"]
    with pytest.raises(InputError, match="does not raise the mean logit"):
        found.normalised("deletion")


def test_files_hold_the_curves_the_rows_and_a_picture(tmp_path) -> None:
    model = loaded(conv_net())
    result = faithfulness(model, pictures(5), [site("1", 16), site("4", 12)], options=FEW)
    result.save(tmp_path)
    kept = read_json(tmp_path / "faithfulness.json")
    assert [each["site"] for each in kept["sites"]] == ["1", "4"]
    curve = kept["sites"][0]["curves"]["deletion_probability"]
    assert curve == pytest.approx(result["1"].curves["deletion_probability"].tolist())
    table = pq.read_table(tmp_path / "faithfulness.parquet").to_pydict()
    assert table["site"] == ["1"] * 5 + ["4"] * 5
    assert table["image"][:5] == [f"image-{index}" for index in range(5)]
    assert table["deletion_probability"][:5] == pytest.approx(
        result["1"].table["deletion_probability"].tolist()
    )
    drawn = ElementTree.parse(tmp_path / "faithfulness.svg").getroot()
    lines = drawn.findall(".//{http://www.w3.org/2000/svg}polyline")
    assert len(lines) == 6
    points = [tuple(map(float, pair.split(","))) for pair in lines[2].get("points").split()]
    assert len(points) == FEW.steps + 1
    heights = np.array([y for _, y in points])
    assert np.corrcoef(heights, curve)[0, 1] == pytest.approx(-1, abs=1e-3)  # larger is higher up


def test_metrics_are_means_and_ratios_of_means() -> None:
    model = loaded(conv_net())
    result = faithfulness(model, pictures(25), [site("1", 16)], options=FEW)
    rows, notes = result.metrics()
    named = {row.name: row for row in rows}
    table = result["1"].table
    ratio = named["faithfulness.deletion_ratio/1"]
    expected = table["deletion_probability"].mean() / table["random_probability"].mean()
    assert ratio.value == pytest.approx(expected)
    assert ratio.n == 25
    assert ratio.interval[0] < ratio.value < ratio.interval[1]
    assert named["faithfulness.winners/1"].value == table["winners"].mean()
    same = named["faithfulness.same_prediction/top_10%/1"]
    assert same.value == table["stays_kept_0"].mean()
    assert "faithfulness.probability_left/random_50%/1" in named
    assert not [line for line in notes if "too few" in line]
    assert result.metrics()[0] == rows  # seeded


def test_intervals_cover_and_what_has_none_is_said() -> None:
    generator = np.random.default_rng(0)
    covered = 0
    for seed in range(40):
        x = generator.exponential(size=80)
        table = {"a": 2 * x + 0.3 * generator.standard_normal(80), "b": x}
        (row,), notes = metrics_of(table, [Wanted("r", "a", "b")], draws=300, seed=seed)
        covered += row.interval[0] <= 2 <= row.interval[1]
        assert notes == []
    assert 33 <= covered <= 40
    table = {"a": np.ones(30), "b": np.linspace(-1, 1.2, 30), "c": np.full(30, -1.0)}
    wanted = [Wanted("ab", "a", "b"), Wanted("ac", "a", "c"), Wanted("a", "a")]
    rows, notes = metrics_of(table, wanted, draws=300, seed=0)
    assert [row.name for row in rows] == ["ab", "a"]
    assert rows[0].interval is None
    assert rows[1].interval == (1.0, 1.0)
    assert notes == [
        "ab has no interval: the mean of b may be zero",
        "ac has no value: the mean of c is -1",
    ]


def test_too_few_images_give_no_interval_and_say_so() -> None:
    result = faithfulness(loaded(linear_net()), pictures(3), [site("2", 24)], options=FEW)
    rows, notes = result.metrics()
    assert all(row.interval is None for row in rows)
    assert "3 images are too few for intervals; at least 20" in notes


def test_images_without_a_winner_are_left_out_and_said() -> None:
    module = conv_net(later=False)
    with torch.no_grad():
        module[3].bias.fill_(-1e4)
    result_of = (loaded(module), pictures(2), [site("4", 12, competitors=None)])
    with pytest.raises(InputError, match="no image has a winner at site '4'"):
        faithfulness(*result_of, options=FEW)
    dark = np.zeros((8, 8, 3), np.uint8)
    with torch.no_grad():
        module[0].bias.zero_()
        module[2].bias.zero_()
        module[3].bias.fill_(-1e-3)

    def transform(image: Image.Image) -> Tensor:
        return torch.from_numpy(np.asarray(image) / 255).permute(2, 0, 1).float()

    model = LoadedModel(module, transform, None, "toy", (3, 8, 8))
    images = probes.from_images([Image.fromarray(dark), pictures(1).image(0)])
    result = faithfulness(model, images, [site("4", 12, competitors=None)], options=FEW)
    assert result["4"].ids == ("image-1",)
    assert "1 images without a winner at 4 are left out" in result.metrics()[1]


@pytest.mark.parametrize(
    ("name", "units", "message"),
    [
        ("22", 24, "no module '22'"),
        ("2", 23, "site '2' has 24 units here, not 23"),
    ],
)
def test_a_site_that_does_not_fit(name: str, units: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        faithfulness(loaded(linear_net()), pictures(2), [site(name, units)], options=FEW)


def test_bad_input() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown order of removal 'singed'.*'signed'"):
        FaithfulnessOptions(order="singed")
    with pytest.raises(InputError, match="steps must be at least 2, not 1"):
        FaithfulnessOptions(steps=1)
    with pytest.raises(InputError, match="fractions must lie between 0 and 1"):
        FaithfulnessOptions(fractions=(0.1, 1.0))
    with pytest.raises(InputError, match="no site to measure"):
        faithfulness(loaded(linear_net()), pictures(2), [])
    module = linear_net()
    module[2].mode = "sample"
    with pytest.raises(InputError, match=r"module '2' draws its winners .* 'auto'"):
        faithfulness(loaded(module), pictures(2), [site("2", 24)], options=FEW)
    module = linear_net()
    with torch.no_grad():
        module[3].bias[1] = torch.inf
    with pytest.raises(InputError, match="the logits of image 'image-0' are not finite"):
        faithfulness(loaded(module), pictures(2), [site("2", 24)], options=FEW)
    result = faithfulness(loaded(linear_net()), pictures(2), [site("2", 24)], options=FEW)
    with pytest.raises(InputError, match="not measured at site '3'; nearest: 2"):
        result["3"]


@pytest.mark.shared_data
def test_photos(shared_data) -> None:
    """A small network trained on CIFAR-10 photos: its contributions order what it relies on."""
    module = nn.Sequential(
        nn.Conv2d(3, 24, 4, 2, 1),
        nn.BatchNorm2d(24),
        nn.ReLU(),
        nn.Conv2d(24, 64, 4, 2, 1),
        nn.BatchNorm2d(64),
        LWTA(8, channel_dim=1),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(256, 10),
    )
    train = probes.load(shared_data / "cifar10-train.parquet")
    test = probes.load(shared_data / "cifar10-test.parquet")

    def transform(image: Image.Image) -> Tensor:
        return torch.from_numpy(np.asarray(image) / 128 - 1).permute(2, 0, 1).float()

    inputs = torch.stack([transform(train.image(index)) for index in range(1500)])
    labels = torch.from_numpy(train.labels[:1500])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for part in module:
            if hasattr(part, "reset_parameters"):
                part.reset_parameters()
        optimizer = torch.optim.Adam(module.parameters(), lr=3e-3)
        for _ in range(8):
            for rows in torch.randperm(1500).split(100):
                loss = nn.functional.cross_entropy(module(inputs[rows]), labels[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    model = LoadedModel(module, transform, test.label_names, "small", (3, 32, 32))
    images = probes.subset(test, range(len(test) - 60, len(test)))
    result = faithfulness(
        model,
        images,
        [site("5", 64, competitors=8), site("2", 24, competitors=None)],
        options=FaithfulnessOptions(random_orders=3, workers=0),
    )
    rows = {row.name: row for row in result.metrics()[0]}
    assert rows["faithfulness.deletion_ratio/5"].interval[1] < 0.8
    assert rows["faithfulness.insertion_ratio/5"].interval[0] > 1.2
    assert rows["faithfulness.deletion_ratio/2"].value < 1
    kept = rows["faithfulness.same_prediction/top_20%/5"].value
    assert kept > rows["faithfulness.same_prediction/random_20%/5"].value
