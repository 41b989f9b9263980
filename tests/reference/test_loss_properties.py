"""What holds for all inputs: properties of the maps, the divergences and the losses."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from wsi_ncmi.losses import NCMI, functional
from wsi_ncmi.losses.functional import Forms, ncmi_terms
from wsi_ncmi.losses.ncmi import Options

quick = settings(max_examples=25, deadline=None, derandomize=True, database=None)
DIRECTIONS = ["kl_q_p", "kl_p_q"]
sizes = st.integers(2, 12)
seeds = st.integers(0, 2**31)
# Activations from nearly equal to one-hot.
scales = st.sampled_from([1e-3, 0.1, 1.0, 10.0, 100.0])


def normal(*shape: int, seed: int, scale: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(*shape, generator=generator, dtype=torch.float64)


def shuffled(size: int, seed: int) -> Tensor:
    return torch.randperm(size, generator=torch.Generator().manual_seed(seed))


def nsf(activation: Tensor) -> Tensor:
    return functional.log_nsf(activation).exp()


@quick
@given(sizes, seeds, scales)
def test_nsf_is_a_distribution_and_softmax_of_logsigmoid(m: int, seed: int, scale: float) -> None:
    activation = normal(3, m, seed=seed, scale=scale)
    p = nsf(activation)
    assert (p >= 0).all()
    torch.testing.assert_close(p.sum(1), torch.ones(3, dtype=torch.float64), rtol=1e-12, atol=0)
    other = torch.softmax(torch.nn.functional.logsigmoid(activation), dim=1)
    torch.testing.assert_close(p, other, rtol=1e-11, atol=0)
    quotient = torch.sigmoid(activation)
    quotient = quotient / quotient.sum(1, keepdim=True)
    torch.testing.assert_close(p, quotient, rtol=1e-9, atol=1e-300)
    centred = functional.centred_log_nsf(activation).exp() / m
    torch.testing.assert_close(centred, p, rtol=1e-11, atol=0)


@quick
@given(sizes, seeds, scales)
def test_nsf_follows_its_features(m: int, seed: int, scale: float) -> None:
    activation, order = normal(3, m, seed=seed, scale=scale), shuffled(m, seed)
    torch.testing.assert_close(nsf(activation[:, order]), nsf(activation)[:, order])


@quick
@given(sizes, seeds, st.floats(0.5, 3.0))
def test_nsf_depends_on_a_common_shift_and_scale(m: int, seed: int, amount: float) -> None:
    """Unlike softmax, it saturates: a shift of the activations is seen."""
    activation = normal(m, seed=seed)
    assert (nsf(activation + amount) - nsf(activation)).abs().max() > 1e-6
    assert (nsf(activation * (1 + amount)) - nsf(activation)).abs().max() > 1e-6
    shifted = torch.softmax(activation + amount, 0)
    torch.testing.assert_close(shifted, torch.softmax(activation, 0), rtol=1e-12, atol=0)


@quick
@given(sizes, seeds, scales)
def test_divergences_are_positive_unless_equal(m: int, seed: int, scale: float) -> None:
    p, q = (functional.centred_log_nsf(normal(m, seed=s, scale=scale)) for s in (seed, seed + 1))
    assert functional.kl(p, p).item() == 0
    assert functional.kl(p, q).item() > 0
    nearly = functional.centred(p + 1e-6 * normal(m, seed=seed + 2))
    assert 0 < functional.kl(p, nearly).item() < 1e-9
    single = functional.kl(p.float(), q.float()).item()
    assert single > 0 if (p - q).abs().max() > 1e-10 else single >= 0  # squares below float32


@quick
@given(sizes, sizes, seeds, scales, st.sampled_from(DIRECTIONS), st.data())
def test_the_compensation_identity_is_the_direct_sum(
    m: int, classes: int, seed: int, scale: float, direction: Any, data: st.DataObject
) -> None:
    """For any weights, zeros among them; a class other than the own one has some."""
    numbers = st.one_of(st.just(0.0), st.floats(1e-3, 10.0))
    weights = data.draw(st.lists(numbers, min_size=classes, max_size=classes))
    w = torch.tensor(weights, dtype=torch.float64)
    w[0] = 1.0
    target = torch.arange(1, classes).repeat(2)
    log_p = functional.centred_log_nsf(normal(len(target), m, seed=seed, scale=scale))
    log_q = functional.centred_log_nsf(normal(classes, m, seed=seed + 1, scale=scale))
    expected = []
    for p_n, y in zip(log_p, target.tolist(), strict=True):
        pairs = [
            (log_q[v], p_n) if direction == "kl_q_p" else (p_n, log_q[v]) for v in range(classes)
        ]
        expected.append(sum(w[v] * functional.kl(*pairs[v]) for v in range(classes) if v != y))
    found = functional.separation(log_p, log_q, target, w, direction)
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-8, atol=1e-14)


def example(m: int, classes: int, batch: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Embeddings [B, m], ξ [C, m], target [B]."""
    target = torch.randint(classes, (batch,), generator=torch.Generator().manual_seed(seed))
    return normal(batch, m, seed=seed), normal(classes, m, seed=seed + 1, scale=3.0), target


def loss_of(
    z: Tensor, xi: Tensor, target: Tensor, counts: list[int] | None = None, **options: Any
) -> float:
    """NCMI in float64 with ξ set and no centre."""
    settings = Options(**{"centre": "none", **options})
    objective = NCMI(xi.shape[1], counts or [10] * len(xi), settings).double()
    with torch.no_grad():
        objective.xi.copy_(xi)
    return objective(z, target).total.item()


several = given(st.integers(2, 12), st.integers(2, 8), st.integers(1, 9), seeds, st.data())
REDUCTIONS = st.sampled_from(["mean_of_ratios", "ratio_of_means", "ema_ratio"])
MAPS = st.sampled_from(["nsf", "softmax"])


def options_of(data: st.DataObject) -> dict[str, Any]:
    """A draw of what no symmetry may depend on."""
    weights = st.sampled_from(["uniform", "empirical"])
    return {
        "reduction": data.draw(REDUCTIONS),
        "map": data.draw(MAPS),
        "separation_direction": data.draw(st.sampled_from(DIRECTIONS)),
        "prior": data.draw(weights),
        "separation_weights": data.draw(weights),
    }


@quick
@several
def test_relabelling_classes_leaves_the_loss(
    m: int, classes: int, size: int, seed: int, data: st.DataObject
) -> None:
    z, xi, target = example(m, classes, size, seed)
    order, options = shuffled(classes, seed), options_of(data)
    counts = data.draw(st.lists(st.integers(1, 99), min_size=classes, max_size=classes))
    expected = loss_of(z, xi, target, counts, **options)
    renamed = torch.argsort(order)[target]
    found = loss_of(z, xi[order], renamed, [counts[i] for i in order], **options)
    # The classes' weights are kept in float32 and normalised in the order of the classes.
    assert found == pytest.approx(expected, rel=1e-5)


@quick
@several
def test_permuting_features_and_samples_leaves_the_loss(
    m: int, classes: int, size: int, seed: int, data: st.DataObject
) -> None:
    z, xi, target = example(m, classes, size, seed)
    features, samples, options = shuffled(m, seed), shuffled(size, seed), options_of(data)
    expected = loss_of(z, xi, target, **options)
    found = loss_of(z[samples][:, features], xi[:, features], target[samples], **options)
    assert found == pytest.approx(expected, rel=1e-9)


@quick
@several
def test_duplicating_the_batch_leaves_the_loss(
    m: int, classes: int, size: int, seed: int, data: st.DataObject
) -> None:
    z, xi, target = example(m, classes, size, seed)
    options, times = options_of(data), data.draw(st.integers(2, 4))
    expected = loss_of(z, xi, target, **options)
    found = loss_of(z.repeat(times, 1), xi, target.repeat(times), **options)
    assert found == pytest.approx(expected, rel=1e-9)


@quick
@several
def test_the_length_of_embeddings_does_not_matter(
    m: int, classes: int, size: int, seed: int, data: st.DataObject
) -> None:
    """Each may have its own: only directions count. A shift is seen."""
    z, xi, target = example(m, classes, size, seed)
    options = options_of(data)
    lengths = data.draw(st.lists(st.floats(1e-6, 1e6), min_size=size, max_size=size))
    expected = loss_of(z, xi, target, **options)
    scaled = z * torch.tensor(lengths, dtype=torch.float64)[:, None]
    assert loss_of(scaled, xi, target, **options) == pytest.approx(expected, rel=1e-9)
    shifted = loss_of(z + 1, xi, target, **options)
    assert shifted != pytest.approx(expected, rel=1e-9)


@quick
@several
def test_the_mean_of_ratios_is_a_mean_over_samples(
    m: int, classes: int, size: int, seed: int, data: st.DataObject
) -> None:
    z, xi, target = example(m, classes, size, seed)
    options = {**options_of(data), "reduction": "mean_of_ratios"}
    singles = [loss_of(z[[n]], xi, target[[n]], **options) for n in range(size)]
    expected = sum(singles) / size
    assert loss_of(z, xi, target, **options) == pytest.approx(expected, rel=1e-9)


@quick
@several
def test_terms_are_never_negative(
    m: int, classes: int, size: int, seed: int, data: st.DataObject
) -> None:
    z, xi, target = example(m, classes, size, seed)
    tau = torch.tensor(data.draw(st.floats(0.01, 10.0)), dtype=torch.float64)
    forms = Forms(data.draw(MAPS), data.draw(MAPS), data.draw(st.sampled_from(DIRECTIONS)))
    weights = torch.full((classes,), 1 / classes, dtype=torch.float64)
    found = ncmi_terms(z, torch.zeros(m).double(), tau, xi, target, weights, forms)
    assert (found.a > -1e-12).all()
    assert (found.b > 0).all()
    torch.testing.assert_close(
        found.excess.sum(1), torch.zeros(size, dtype=torch.float64), rtol=0, atol=1e-9
    )


@quick
@several
def test_gradients_are_those_of_a_function_of_directions(
    m: int, classes: int, size: int, seed: int, data: st.DataObject
) -> None:
    """By Euler: no component of the embedding's gradient along the embedding."""
    z, xi, target = example(m, classes, size, seed)
    objective = NCMI(m, [10] * classes, Options(centre="none", **options_of(data))).double()
    with torch.no_grad():
        objective.xi.copy_(xi)
    z.requires_grad_()
    (grad,) = torch.autograd.grad(objective(z, target).total, z)
    along = (grad * z).sum(1).abs()
    assert (along <= 1e-9 * (grad.norm(dim=1) * z.norm(dim=1)) + 1e-12).all()
