"""`functional.ncmi_terms` against loops over pairs in float64, and against its composable twins."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from wsi_ncmi.losses import functional
from wsi_ncmi.losses.functional import Forms, ncmi_terms

TAU = 0.2
# A class whose activations stay as they are; `softmax` is also the form of logs of distributions.
FORMS = [Forms("nsf", "nsf"), Forms("nsf", "softmax"), Forms("softmax", "softmax")]
FORMS = [Forms(f.sample, f.classes, d) for f in FORMS for d in ("kl_q_p", "kl_p_q")]
NAMES = [f"{f.sample}-{f.classes}-{f.direction}" for f in FORMS]
all_forms = pytest.mark.parametrize("forms", FORMS, ids=NAMES)
# m, C and B. Arrays of more than 2**17 values are worked on in blocks: here B·m, C·m and both are.
SIZES = [(2, 2, 5), (8, 4, 5), (512, 100, 5), (2048, 3, 65), (16, 1000, 3), (512, 300, 2)]
CASES = [(*size, forms) for size in SIZES for forms in FORMS]
CASES += [(2048, 65, 65, FORMS[0]), (2048, 65, 65, FORMS[-1])]
Inputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


def direct(oracle: SimpleNamespace, inputs: Inputs, forms: Forms) -> tuple[Tensor, Tensor]:
    """a and b [B], one pair after the other, in float64."""
    z, centre, tau, classes, target, weights = inputs
    maps: dict[str, Callable[[Tensor], Tensor]] = {"nsf": oracle.nsf, "softmax": oracle.softmax}
    p, q = [], [maps[forms.classes](row) for row in classes]
    for row in z - centre:
        p.append(maps[forms.sample](row / torch.sqrt((row * row).sum()) / tau))
    labels, w = target.tolist(), weights.tolist()
    if forms.direction == "kl_q_p":
        return oracle.own_terms(p, q, labels), oracle.separation_terms(p, q, labels, w)
    b = [
        sum(w[v] * oracle.kl(p_n, q[v]) for v in range(len(q)) if v != y)
        for p_n, y in zip(p, labels, strict=True)
    ]
    return oracle.own_terms(p, q, labels), torch.stack(b)


def problem(
    dim: int,
    classes: int,
    batch: int,
    forms: Forms = FORMS[0],
    *,
    spread: float,
    apart: float = 1,
    centre: float = 1,
) -> Inputs:
    """Embeddings at a relative distance `spread` from their class's direction, and the classes.

    The classes' distributions are the map of that direction: q is p at spread 0. Directions have a
    part in common; what differs is `apart` of them.
    """
    rng = torch.Generator().manual_seed(dim + classes)
    common, own = torch.randn(dim, generator=rng), torch.randn(classes, dim, generator=rng)
    directions = torch.nn.functional.normalize((1 - apart) * common + apart * own, dim=1)
    target = torch.randint(classes, (batch,), generator=rng)
    noise = torch.randn(batch, dim, generator=rng) / dim**0.5
    activation = directions / TAU
    if (forms.sample, forms.classes) == ("nsf", "softmax"):
        activation = torch.log_softmax(torch.nn.functional.logsigmoid(activation), dim=1)
    weights = torch.rand(classes, generator=rng) / classes
    c = centre * torch.randn(dim, generator=rng)
    z = c + directions[target] + spread * noise
    return z, c, torch.tensor(TAU), activation, target, weights


def double(inputs: Inputs) -> Inputs:
    """The very same values in float64, leaves where there is a gradient."""
    z, centre, tau, classes, target, weights = inputs
    leaves = [t.detach().double().requires_grad_() for t in (z, tau, classes)]
    return leaves[0], centre.double(), leaves[1], leaves[2], target, weights.double()


def gradients(value: Tensor, inputs: Inputs) -> list[Tensor]:
    """By embedding, temperature and classes."""
    return list(torch.autograd.grad(value, (inputs[0], inputs[2], inputs[3])))


def with_gradients(inputs: Inputs) -> Inputs:
    """Gradients by embedding, temperature and classes."""
    for i in (0, 2, 3):
        inputs[i].requires_grad_()
    return inputs


def relative(found: Tensor, expected: Tensor) -> float:
    """Distance over the norm of what is expected."""
    return ((found.double() - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize(("dim", "classes", "batch", "forms"), CASES)
def test_terms_and_gradients(
    oracle: SimpleNamespace, dim: int, classes: int, batch: int, forms: Forms
) -> None:
    inputs = with_gradients(problem(dim, classes, batch, forms, spread=0.8))
    found, exact = ncmi_terms(*inputs, forms), double(inputs)
    a, b = direct(oracle, exact, forms)
    assert found.a.dtype == found.b.dtype == torch.float64
    torch.testing.assert_close(found.a, a, rtol=1e-6, atol=0)
    torch.testing.assert_close(found.b, b, rtol=1e-6, atol=0)
    expected = gradients((a / b).mean(), exact)
    for grad, want in zip(gradients((found.a / found.b).mean(), inputs), expected, strict=True):
        assert grad.dtype == torch.float32
        assert relative(grad, want) < 5e-6


@all_forms
@pytest.mark.parametrize(("dim", "classes", "spread"), [(8, 4, 8e-4), (512, 100, 2e-3)])
@pytest.mark.parametrize(("centre", "larger", "tolerance"), [(0, 1, 1e-6), (1, 3, 1e-4)])
def test_small_divergences_of_the_own_class_keep_their_digits(
    oracle: SimpleNamespace,
    dim: int,
    classes: int,
    spread: float,
    centre: float,
    larger: float,
    tolerance: float,
    forms: Forms,
) -> None:
    """At 1e-7 nats; at 1e-6 with a centre, as z − c has the embedding's precision."""
    inputs = problem(dim, classes, 6, forms, spread=larger * spread, centre=centre)
    found, exact = ncmi_terms(*with_gradients(inputs), forms), double(inputs)
    a, _ = direct(oracle, exact, forms)
    assert 1e-8 < a.min().item() / larger**2 < 2e-7
    torch.testing.assert_close(found.a, a, rtol=tolerance, atol=0)
    expected = gradients(a.mean(), exact)
    for grad, want in zip(gradients(found.a.mean(), inputs), expected, strict=True):
        assert relative(grad, want) < tolerance


@all_forms
@pytest.mark.parametrize(
    ("dim", "classes", "apart", "size"),
    [(8, 4, 0.1, 1e-2), (8, 4, 1e-3, 1e-6), (512, 40, 0.1, 1e-3), (512, 40, 3e-3, 1e-6)],
)
def test_small_separations_keep_their_digits(
    oracle: SimpleNamespace, dim: int, classes: int, apart: float, size: float, forms: Forms
) -> None:
    """Classes, and with them Γ, lie close together."""
    inputs = problem(dim, classes, 4, forms, spread=apart, apart=apart, centre=0)
    found, exact = ncmi_terms(*with_gradients(inputs), forms), double(inputs)
    _, b = direct(oracle, exact, forms)
    assert size / 20 < b.min().item() < size
    torch.testing.assert_close(found.b, b, rtol=1e-6, atol=0)
    expected = gradients(b.mean(), exact)
    for grad, want in zip(gradients(found.b.mean(), inputs), expected, strict=True):
        assert relative(grad, want) < 1e-6


@all_forms
def test_gradcheck(forms: Forms) -> None:
    z, centre, tau, classes, target, weights = double(problem(6, 3, 4, forms, spread=0.8))

    def terms(z: Tensor, tau: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        found = ncmi_terms(z, centre, tau, classes, target, weights, forms)
        return found.a, found.b

    assert gradcheck(terms, (z, tau, classes))


@all_forms
def test_equals_the_composable_functions(forms: Forms) -> None:
    """Values and gradients of `kl_own_class` and `separation` under autograd."""
    inputs = double(problem(16, 5, 7, forms, spread=0.8))
    z, centre, tau, classes, target, weights = inputs
    maps = {"nsf": functional.centred_log_nsf, "softmax": functional.centred}
    log_p = maps[forms.sample](functional.unit_vectors(z - centre) / tau)
    log_q = maps[forms.classes](classes)
    a = functional.kl_own_class(log_p, log_q, target)
    b = functional.separation(log_p, log_q, target, weights, direction=forms.direction)
    found = ncmi_terms(*inputs, forms)
    torch.testing.assert_close(found.a, a, rtol=1e-10, atol=0)
    torch.testing.assert_close(found.b, b, rtol=1e-10, atol=0)
    torch.testing.assert_close(found.excess, log_p.exp() - 1, rtol=0, atol=1e-12)
    expected = gradients((a * b.detach() + 3 * b).sum(), inputs)
    value = (found.a * found.b.detach() + 3 * found.b).sum()
    for grad, want in zip(gradients(value, inputs), expected, strict=True):
        torch.testing.assert_close(grad, want, rtol=1e-8, atol=1e-12)


@all_forms
def test_one_term_alone_has_its_own_gradient(oracle: SimpleNamespace, forms: Forms) -> None:
    inputs = double(problem(6, 3, 4, forms, spread=0.8))
    for term in (0, 1):
        found = gradients(ncmi_terms(*inputs, forms)[term].sum(), inputs)
        expected = gradients(direct(oracle, inputs, forms)[term].sum(), inputs)
        for grad, want in zip(found, expected, strict=True):
            torch.testing.assert_close(grad, want, rtol=1e-8, atol=1e-12)


@all_forms
def test_excess(oracle: SimpleNamespace, forms: Forms) -> None:
    """m·p − 1, without gradient: class sums are made from it."""
    inputs = with_gradients(problem(8, 4, 5, forms, spread=0.8))
    z, centre, tau, *_ = double(inputs)
    form = {"nsf": oracle.nsf, "softmax": oracle.softmax}[forms.sample]
    p = torch.stack([form(row / torch.sqrt((row * row).sum()) / tau) for row in z - centre])
    found = ncmi_terms(*inputs, forms).excess
    assert not found.requires_grad
    torch.testing.assert_close(found.double(), 8 * p - 1, rtol=1e-5, atol=1e-6)


def test_the_centre_gets_no_gradient() -> None:
    inputs = with_gradients(problem(8, 4, 5, spread=0.8))
    inputs[1].requires_grad_()
    ncmi_terms(*inputs).a.sum().backward()
    assert inputs[1].grad is None


@all_forms
def test_mapped_over_equals_one_by_one(forms: Forms) -> None:
    """Stacked models (torch.func.vmap): values and gradients of each."""
    several = [problem(8, 4, 5, forms, spread=s) for s in (0.3, 0.8, 1.2)]
    stacked = tuple(torch.stack(part) for part in zip(*several, strict=True))

    def loss(*inputs: Tensor) -> Tensor:
        found = ncmi_terms(*inputs, forms)  # type: ignore[arg-type]
        return (found.a / found.b).mean()

    by = (0, 2, 3)
    found = torch.func.vmap(torch.func.grad_and_value(loss, argnums=by))(*stacked)
    for i, inputs in enumerate(several):
        value = loss(*with_gradients(inputs))
        torch.testing.assert_close(found[1][i], value, rtol=1e-6, atol=0)
        for grad, want in zip(found[0], gradients(value, inputs), strict=True):
            torch.testing.assert_close(grad[i], want, rtol=1e-5, atol=1e-7)


@all_forms
def test_a_second_derivative_is_refused_where_it_would_be_wrong(forms: Forms) -> None:
    """By any input, and by what the gradient was multiplied with; with torch.func as well."""
    inputs = with_gradients(double(problem(6, 3, 4, forms, spread=0.8)))
    weights = torch.ones(4, dtype=torch.float64, requires_grad=True)
    found = ncmi_terms(*inputs, forms)
    value = (weights * found.a / found.b).sum()
    learnt = [tensor for tensor in inputs if tensor.requires_grad]
    for tensor in learnt:
        (grad,) = torch.autograd.grad(value, tensor, create_graph=True)
        for other in (*learnt, weights):
            with pytest.raises(RuntimeError, match=r"differentiated once.*kl_own_class"):
                torch.autograd.grad(grad.sum(), other, retain_graph=True)

    def slope(z: Tensor) -> Tensor:
        def loss(z: Tensor) -> Tensor:
            return ncmi_terms(z, *(tensor.detach() for tensor in inputs[1:]), forms).a.sum()

        return torch.func.grad(loss)(z).square().sum()

    slope(inputs[0].detach())
    with pytest.raises(RuntimeError, match="differentiated once"):
        torch.func.grad(slope)(inputs[0].detach())


def test_what_the_message_advises_has_a_second_derivative() -> None:
    z, centre, tau, classes, target, weights = double(problem(6, 3, 4, Forms(), spread=0.8))

    def loss(z: Tensor) -> Tensor:
        log_p = functional.centred_log_nsf(functional.unit_vectors(z - centre) / tau)
        log_q = functional.centred_log_nsf(classes)
        a = functional.kl_own_class(log_p, log_q, target)
        return (a / functional.separation(log_p, log_q, target, weights)).mean()

    assert torch.autograd.gradgradcheck(loss, z.detach().requires_grad_())
