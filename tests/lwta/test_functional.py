"""The competition's rules: literal twins, properties, gradients, bad input."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from neuronym.errors import DivisibilityError, InputError, UnknownNameError
from neuronym.lwta import engine, functional, noise, plain
from neuronym.lwta.layout import nearest_divisors
from neuronym.lwta.plain import Rule
from reference import lwta as literal


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@st.composite
def activations(draw: st.DrawFn) -> tuple[torch.Tensor, int]:
    """(positions, blocks · U) in float64, and U; ties and large values included."""
    competitors = draw(st.integers(2, 7))
    shape = draw(st.tuples(st.integers(1, 4), st.integers(1, 3)))
    values = arrays.arrays(
        np.float64,
        (shape[0], shape[1] * competitors),
        elements=st.one_of(st.sampled_from([0.0, 1.0, -1.0]), st.floats(-80, 80, width=32)),
    )
    return torch.from_numpy(draw(values)), competitors


@given(activations())
@settings(deadline=None, max_examples=60)
def test_argmax_is_the_literal_one(case: tuple[torch.Tensor, int]) -> None:
    z, competitors = case
    y, won = functional.compete_with_winners(z, competitors, mode="argmax")
    assert won.tolist() == literal.winners(z.numpy(), competitors).tolist()
    assert np.array_equal(y.numpy(), literal.compete(z.numpy(), competitors))
    single = functional.compete(z.float(), competitors, mode="argmax")
    assert np.array_equal(single.double().numpy(), y.numpy())  # the fused path


@given(activations(), st.integers(0, 2**63 - 1))
@settings(deadline=None, max_examples=60)
def test_samples_are_the_literal_ones(case: tuple[torch.Tensor, int], key: int) -> None:
    z, competitors = case
    outcome = engine.run(z, Rule(competitors, 1, 0.5, key, kl=True))
    g = literal.noise(key, *z.shape)
    assert np.array_equal(outcome.y.numpy(), literal.compete(z.numpy(), competitors, g))
    assert outcome.kl is not None
    expected = literal.kl_to_uniform(z.numpy(), competitors)
    assert float(outcome.kl) == pytest.approx(expected, rel=1e-12, abs=1e-12)


@given(activations(), st.sampled_from(["sample", "argmax"]))
@settings(deadline=None, max_examples=60)
def test_one_winner_per_block_and_mass_one(case: tuple[torch.Tensor, int], mode: str) -> None:
    z, competitors = case
    y, won = functional.compete_with_winners(z, competitors, mode=mode, generator=generator())
    mask = functional.mask_from_winners(won, competitors)
    blocks = mask.unflatten(1, (-1, competitors))
    assert (blocks.sum(2) == 1).all()
    assert torch.equal(y, torch.where(mask, z, torch.zeros_like(z)))
    q = functional.winner_probabilities(z, competitors)
    assert torch.allclose(q.unflatten(1, (-1, competitors)).sum(2), torch.ones(1).double())
    assert np.allclose(q.numpy(), literal.probabilities(z.numpy(), competitors), atol=1e-14)


@given(activations(), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=40)
def test_permuting_competitors_permutes_the_output(case, random) -> None:
    z, competitors = case
    z = z + torch.arange(z.numel()).view(z.shape) * 1e-6  # no ties: the first of equals wins
    order = list(range(competitors))
    random.shuffle(order)

    def permuted(values: torch.Tensor) -> torch.Tensor:
        return values.unflatten(1, (-1, competitors))[:, :, order].flatten(1)

    y = functional.compete(z, competitors, mode="argmax")
    assert torch.equal(functional.compete(permuted(z), competitors, mode="argmax"), permuted(y))


@given(activations())
@settings(deadline=None, max_examples=60)
def test_kl_is_at_least_zero_and_zero_at_uniform(case: tuple[torch.Tensor, int]) -> None:
    z, competitors = case
    rule = Rule(competitors, 1, 1.0, None, kl=True)
    most = z.shape[0] * z.shape[1] // competitors * np.log(competitors)
    for values in (z, z.float()):
        kl = engine.run(values, rule).kl
        assert kl is not None
        assert -1e-6 < float(kl) < most * (1 + 1e-6)
        flat = engine.run(torch.full_like(values, 3.0), rule).kl
        assert float(flat) == pytest.approx(0, abs=1e-6)  # type: ignore[arg-type]


def test_win_rates_follow_the_probabilities() -> None:
    z = torch.tensor([0.0, 1.0, -0.5, 2.0])
    q = functional.winner_probabilities(z, 4)
    _, won = functional.compete_with_winners(z.expand(200_000, 4), 4, generator=generator(3))
    rates = torch.bincount(won.flatten(), minlength=4) / len(won)
    assert torch.allclose(rates, q, atol=5 * 0.5 / 200_000**0.5)


@pytest.mark.parametrize("temperature", [0.1, 0.67, 2.0])
@pytest.mark.parametrize("competitors", [2, 3, 8])
def test_straight_through_gradient_is_autograd_of_the_formula(
    temperature: float, competitors: int
) -> None:
    g = generator(competitors)
    z = torch.randn(5, 3 * competitors, generator=g, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(z.shape, generator=g, dtype=torch.float64)
    key = 99
    y = literal.straight_through(z, competitors, literal.noise(key, *z.shape), temperature)
    kl = literal.kl_of_logits(z, competitors)
    (expected,) = torch.autograd.grad((y * upstream).sum() + 0.7 * kl, z)
    rule = Rule(competitors, 1, temperature, key, kl=True)
    for run in (engine.run, plain.literal):
        outcome = run(z, rule)
        assert torch.allclose(outcome.y, y, rtol=1e-14, atol=1e-15)
        loss = (outcome.y * upstream).sum() + 0.7 * outcome.kl
        (found,) = torch.autograd.grad(loss, z)
        assert torch.allclose(found, expected, rtol=1e-10, atol=1e-12)


def test_temperature_shapes_the_gradient_and_never_the_winner() -> None:
    z = torch.randn(40, 24, generator=generator(), dtype=torch.float64, requires_grad=True)
    found = []
    for temperature in (0.05, 5.0):
        y = engine.run(z, Rule(8, 1, temperature, 4, kl=False)).y
        found.append((y, torch.autograd.grad(y.square().sum(), z)[0]))
    assert torch.equal(found[0][0], found[1][0])
    assert not torch.allclose(found[0][1], found[1][1])


def test_argmax_gradient_is_the_mask() -> None:
    z = torch.randn(4, 6, generator=generator(), requires_grad=True)
    upstream = torch.randn(4, 6, generator=generator(1))
    y = functional.compete(z, 3, mode="argmax")
    (grad,) = torch.autograd.grad(y, z, upstream)
    assert torch.equal(grad, upstream * functional.winner_mask(z.detach(), 3))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("channel_dim", [0, 1, 2, -1])
def test_every_channel_dimension_is_the_same_competition(
    channel_dim: int, dtype: torch.dtype
) -> None:
    rows = torch.randn(5, 7, 12, generator=generator(), dtype=dtype)
    key = 17
    expected = engine.run(rows, Rule(4, 2, 0.67, key, kl=True))
    moved = rows.movedim(-1, channel_dim).contiguous()
    axis = channel_dim % 3
    found = engine.run(moved, Rule(4, axis, 0.67, key, kl=True))
    assert torch.equal(found.y.movedim(axis, -1), expected.y)
    assert torch.equal(found.winners.movedim(axis, -1), expected.winners)
    assert float(found.kl) == pytest.approx(float(expected.kl), rel=1e-6)  # type: ignore[arg-type]


def test_nan_wins_its_block_in_both_paths() -> None:
    z = torch.randn(6, 12, generator=generator())
    z[2, 5] = z[2, 6] = z[4, 0] = float("nan")
    z[5, 11] = float("inf")
    for mode in functional.MODES:
        single, won = functional.compete_with_winners(z, 4, mode=mode, generator=generator(1))
        double, other = functional.compete_with_winners(
            z.double(), 4, mode=mode, generator=generator(1)
        )
        assert torch.equal(won, other)
        assert torch.equal(single.isnan(), double.isnan())
        assert single[5, 11].isinf()
        assert single[[2, 4], [5, 0]].isnan().all()
        assert int(single.isnan().sum()) == 2


def test_generator_and_seed_rule_the_winners() -> None:
    z = torch.randn(50, 24, generator=generator())
    first = functional.compete(z, 8, generator=generator(1))
    assert torch.equal(first, functional.compete(z, 8, generator=generator(1)))
    assert not torch.equal(first, functional.compete(z, 8, generator=generator(2)))
    torch.manual_seed(1)
    second = functional.compete(z, 8)
    assert torch.equal(first, second)  # one key, from either


def test_empty_batch() -> None:
    z = torch.zeros(0, 8, 3, 3, requires_grad=True)
    y, won = functional.compete_with_winners(z, 4, channel_dim=1)
    assert y.shape == z.shape
    assert won.shape == (0, 2, 3, 3)
    y.sum().backward()
    assert z.grad is not None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_single(dtype: torch.dtype) -> None:
    z = torch.randn(9, 16, generator=generator()).to(dtype).requires_grad_()
    y = functional.compete(z, 8, generator=generator(1))
    wide = functional.compete(z.float(), 8, generator=generator(1))
    assert y.dtype == dtype
    assert torch.equal(y.float(), wide)
    y.sum().backward()
    assert z.grad is not None
    assert z.grad.dtype == dtype


def test_input_that_is_not_contiguous() -> None:
    base = torch.randn(6, 40, generator=generator())
    z = base[::2, 4:28].requires_grad_()
    y = functional.compete(z, 8, generator=generator(1))
    assert torch.equal(y, functional.compete(z.detach().clone(), 8, generator=generator(1)))
    (grad,) = torch.autograd.grad(functional.compete(z, 8, mode="argmax").sum(), z)
    assert torch.equal(grad, functional.winner_mask(z.detach(), 8).float())


def test_function_transforms_see_the_formula() -> None:
    z = torch.randn(6, 8, generator=generator(), dtype=torch.float64)

    def loss(values: torch.Tensor) -> torch.Tensor:
        return functional.compete(values, 4, mode="argmax").square().sum()

    found = torch.func.grad(loss)(z)
    assert torch.equal(found, 2 * z * functional.winner_mask(z, 4))
    rows = torch.func.vmap(lambda row: functional.compete(row, 4, mode="argmax"))(z)
    assert torch.equal(rows, functional.compete(z, 4, mode="argmax"))
    hessian = torch.func.jacrev(torch.func.grad(loss))(z[0])
    assert torch.equal(hessian, 2 * torch.diag(functional.winner_mask(z[0], 4).double()))


def test_mask_and_winners_agree_along_any_dimension() -> None:
    z = torch.randn(2, 6, 4, generator=generator())
    won = functional.winners(z, 3, channel_dim=1)
    mask = functional.mask_from_winners(won, 3, channel_dim=1)
    assert won.shape == (2, 2, 4)
    assert won.dtype == torch.int64
    assert torch.equal(mask, functional.winner_mask(z, 3, channel_dim=-2))
    assert torch.equal(z * mask, functional.compete(z, 3, channel_dim=1, mode="argmax"))


def test_nearest_divisors() -> None:
    assert nearest_divisors(48, 7) == [6, 8]
    assert nearest_divisors(48, 100) == [48]
    assert nearest_divisors(1, 2) == []


Z = torch.zeros(2, 48)


@pytest.mark.parametrize(
    ("arguments", "keywords", "error", "message"),
    [
        ((Z, 7), {}, DivisibilityError, "7 competitors do not divide the 48 channels"),
        ((Z, 7), {}, DivisibilityError, "nearest that do: 6 or 8"),
        ((Z, 1), {}, InputError, "use the dense twin"),
        ((Z, 0), {}, InputError, "at least 2, not 0"),
        ((Z, True), {}, InputError, "an int of at least 2, not True"),
        ((Z, 2.0), {}, InputError, "an int of at least 2, not 2.0"),
        ((Z.long(), 2), {}, InputError, "floating-point numbers, not torch.int64"),
        ((Z, 2), {"channel_dim": 2}, InputError, "allowed: -2 to 1"),
        ((Z, 2), {"mode": "sampel"}, UnknownNameError, "Did you mean 'sample'"),
        ((Z, 2), {"temperature": 0}, InputError, "above 0, not 0"),
        ((Z, 2), {"temperature": float("nan")}, InputError, "above 0, not nan"),
    ],
)
def test_bad_input(arguments, keywords, error, message: str) -> None:
    with pytest.raises(error) as caught:
        functional.compete(*arguments, **keywords)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("winners", "message"),
    [
        (torch.tensor([[0, 4]]), "winners range from 0 to 4; with 4 competitors allowed: 0 to 3"),
        (torch.tensor([[0.0]]), "must be integers, not torch.float32"),
        (torch.tensor(1), "outside winners of shape ()"),
    ],
)
def test_bad_winners(winners: torch.Tensor, message: str) -> None:
    with pytest.raises(InputError) as caught:
        functional.mask_from_winners(winners, 4)
    assert message in str(caught.value)


def test_noise_is_the_same_for_both_paths() -> None:
    """Ties aside, the fused approximation of the noise picks the same winners."""
    z = torch.randn(2000, 24, generator=generator())
    single = functional.compete_with_winners(z, 8, generator=generator(9))[1]
    double = functional.compete_with_winners(z.double(), 8, generator=generator(9))[1]
    assert int((single != double).sum()) <= 1
    key = int(noise.draw_key(generator(9)))
    assert torch.equal(double, engine.run(z.double(), Rule(8, 1, 1.0, key, kl=False)).winners)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_expectation_of_a_block_with_a_masked_unit(dtype: torch.dtype) -> None:
    z = torch.tensor([[-torch.inf, 1.0, 2.0, 3.0]], dtype=dtype, requires_grad=True)
    y = functional.expected(z, 2)
    assert y[0, :2].tolist() == [0.0, 1.0]
    (grad,) = torch.autograd.grad(y.sum(), z)
    assert grad[0, :2].tolist() == [0.0, 1.0]
