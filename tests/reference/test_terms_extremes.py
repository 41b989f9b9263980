"""`functional.ncmi_terms` at the edges: zero, tiny, huge and broken inputs, absent classes."""

from types import SimpleNamespace
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from wsi_ncmi.losses.functional import Forms, ncmi_terms

FORMS = [
    Forms("nsf", "nsf", "kl_q_p"),
    Forms("nsf", "nsf", "kl_p_q"),
    Forms("softmax", "softmax", "kl_q_p"),
    Forms("softmax", "softmax", "kl_p_q"),
]
all_forms = pytest.mark.parametrize(
    "forms", FORMS, ids=[f"{f.classes}-{f.direction}" for f in FORMS]
)


class Inputs(NamedTuple):
    """What `ncmi_terms` takes."""

    embedding: Tensor
    centre: Tensor
    temperature: Tensor
    classes: Tensor
    target: Tensor
    weights: Tensor

    def gradients(self, value: Tensor) -> list[Tensor]:
        """By embedding, temperature and classes."""
        return list(torch.autograd.grad(value, (self.embedding, self.temperature, self.classes)))


def problem(batch: int = 6, dim: int = 8, classes: int = 4) -> Inputs:
    rng = torch.Generator().manual_seed(7)
    return Inputs(
        torch.randn(batch, dim, generator=rng, requires_grad=True),
        torch.zeros(dim),
        torch.tensor(0.2, requires_grad=True),
        (4 * torch.randn(classes, dim, generator=rng)).requires_grad_(),
        torch.arange(batch) % classes,
        torch.full((classes,), 1 / classes),
    )


def with_embedding(inputs: Inputs, z: Tensor) -> Inputs:
    return inputs._replace(embedding=z.detach().clone().requires_grad_())


def with_classes(inputs: Inputs, classes: Tensor) -> Inputs:
    return inputs._replace(classes=classes.detach().clone().requires_grad_())


def all_finite(*tensors: Tensor) -> bool:
    return all(bool(torch.isfinite(t).all()) for t in tensors)


@all_forms
def test_an_embedding_at_the_centre_is_uniform_without_gradient(
    oracle: SimpleNamespace, forms: Forms
) -> None:
    inputs = problem()._replace(centre=torch.linspace(-3, 2, 8))
    z = inputs.embedding.detach().clone()
    z[[1, 4]] = inputs.centre
    inputs = with_embedding(inputs, z)
    found = ncmi_terms(*inputs, forms)
    uniform = torch.full((8,), 1 / 8, dtype=torch.float64)
    form = {"nsf": oracle.nsf, "softmax": oracle.softmax}[forms.classes]
    q = [form(row) for row in inputs.classes.detach().double()]
    for n in (1, 4):
        y = int(inputs.target[n])
        pairs = [(q_v, uniform) for v, q_v in enumerate(q) if v != y]
        if forms.direction == "kl_p_q":
            pairs = [(p, q_v) for q_v, p in pairs]
        b = sum(oracle.kl(*pair) for pair in pairs) / 4
        assert found.a[n].item() == pytest.approx(oracle.kl(uniform, q[y]).item(), rel=1e-9)
        assert found.b[n].item() == pytest.approx(b.item(), rel=1e-9)
    assert torch.equal(found.excess[[1, 4]], torch.zeros(2, 8))
    grads = inputs.gradients((found.a / found.b).sum())
    assert torch.equal(grads[0][[1, 4]], torch.zeros(2, 8))
    assert (grads[0][[0, 2, 3, 5]].norm(dim=1) > 1e-3).all()
    assert all_finite(*grads)


@all_forms
@pytest.mark.parametrize("scale", [1e-30, 1e-10, 1e10, 1e30])
def test_the_length_of_an_embedding_does_not_matter(scale: float, forms: Forms) -> None:
    """Values stay; the gradient is that of a function of the direction, scaled by 1/length."""
    plain = problem()
    scaled = with_embedding(plain, plain.embedding * scale)
    expected, found = ncmi_terms(*plain, forms), ncmi_terms(*scaled, forms)
    torch.testing.assert_close(found.a, expected.a, rtol=1e-5, atol=0)
    torch.testing.assert_close(found.b, expected.b, rtol=1e-5, atol=0)
    want = plain.gradients((expected.a / expected.b).sum())
    have = scaled.gradients((found.a / found.b).sum())
    torch.testing.assert_close(have[0].double() * scale, want[0].double(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(have[1], want[1], rtol=1e-4, atol=0)
    torch.testing.assert_close(have[2], want[2], rtol=1e-4, atol=1e-6)


@all_forms
def test_a_row_of_every_length_in_one_batch(forms: Forms) -> None:
    plain = problem()
    lengths = torch.tensor([1e-30, 1.0, 0.0, 1e30, 1e-15, 1e15])[:, None]
    found = ncmi_terms(*with_embedding(plain, plain.embedding * lengths), forms)
    expected = ncmi_terms(*plain, forms)
    rest = [0, 1, 3, 4, 5]
    torch.testing.assert_close(found.a[rest], expected.a[rest], rtol=1e-5, atol=0)
    torch.testing.assert_close(found.b[rest], expected.b[rest], rtol=1e-5, atol=0)


@all_forms
@pytest.mark.parametrize("temperature", [1e-4, 1e-2, 1e3])
def test_extreme_temperatures_are_finite(temperature: float, forms: Forms) -> None:
    inputs = problem()._replace(temperature=torch.tensor(temperature, requires_grad=True))
    found = ncmi_terms(*inputs, forms)
    assert all_finite(found.a, found.b)
    assert (found.a > 0).all()
    assert (found.b > 0).all()
    assert all_finite(*inputs.gradients((found.a / found.b).mean()))


@all_forms
def test_huge_activations_of_the_classes_are_finite(forms: Forms) -> None:
    inputs = problem()
    huge = with_classes(inputs, 1e4 * inputs.classes.sign())
    found = ncmi_terms(*huge, forms)
    assert all_finite(found.a, found.b)
    assert (found.b > 0).all()
    assert all_finite(*huge.gradients((found.a / found.b).mean()))


@pytest.mark.parametrize("direction", ["kl_q_p", "kl_p_q"])
def test_activations_below_the_lowest_count_as_it(oracle: SimpleNamespace, direction: str) -> None:
    """ξ of ±1e4 under the normalised sigmoid is ξ of −700 and of anything far above zero."""
    inputs = problem(dim=8)
    forms = Forms("nsf", "nsf", direction)  # type: ignore[arg-type]
    found = ncmi_terms(*with_classes(inputs, 1e4 * inputs.classes.sign()), forms)
    bounded = [oracle.nsf(700 * row) for row in inputs.classes.detach().sign().double()]
    zero = torch.zeros(8, dtype=torch.float64)
    z = inputs.embedding.detach().double()
    p = [oracle.distribution(row, zero, inputs.temperature.detach().double()) for row in z]
    labels = inputs.target.tolist()
    torch.testing.assert_close(found.a, oracle.own_terms(p, bounded, labels), rtol=1e-6, atol=0)
    for b_n, p_n, y in zip(found.b, p, labels, strict=True):
        pairs = [(q_v, p_n) for v, q_v in enumerate(bounded) if v != y]
        if direction == "kl_p_q":
            pairs = [(p_n, q_v) for q_v, _ in pairs]
        expected = sum(oracle.kl(*pair) for pair in pairs) / 4
        assert b_n.item() == pytest.approx(expected.item(), rel=1e-6)


@all_forms
@pytest.mark.parametrize("classes", [2, 3])
def test_a_sample_on_another_class_has_a_finite_ratio(classes: int, forms: Forms) -> None:
    """With two classes Γ of such a sample is zero but for its floor."""
    inputs = problem(batch=1, classes=classes)
    unit = torch.nn.functional.normalize(inputs.embedding.detach().double(), dim=1)
    activation = inputs.classes.detach().double()
    activation[1] = unit[0] / inputs.temperature.detach().double()
    single = with_classes(inputs, activation)
    found = ncmi_terms(*single, forms)
    assert found.b.item() > 0
    ratio = found.a / found.b
    assert all_finite(ratio)
    assert ratio.item() > 0
    assert (found.b.item() < 1e-10) == (classes == 2)
    assert all_finite(*single.gradients(ratio.sum()))


@all_forms
def test_samples_on_their_own_class(forms: Forms) -> None:
    """The smallest a is zero, and never below it by more than float64's rounding."""
    inputs = problem(batch=4)
    unit = torch.nn.functional.normalize(inputs.embedding.detach().double(), dim=1)
    exact = with_classes(inputs, unit / inputs.temperature.detach().double())
    found = ncmi_terms(*exact, forms)
    assert found.a.abs().max().item() < 1e-12
    grads = exact.gradients(found.a.sum())
    assert all_finite(*grads)
    assert max(g.abs().max().item() for g in grads) < 1e-5


@all_forms
def test_coinciding_classes_have_a_finite_ratio(forms: Forms) -> None:
    """Γ of samples on the one distribution of all classes is zero but for its floor."""
    inputs = problem(batch=1)
    unit = torch.nn.functional.normalize(inputs.embedding.detach().double(), dim=1)
    activation = (unit / inputs.temperature.detach().double()).repeat(4, 1)
    same = with_classes(inputs, activation)
    found = ncmi_terms(*same, forms)
    assert found.b.item() > 0
    assert all_finite(found.a / found.b, *same.gradients((found.a / found.b).sum()))


@all_forms
def test_samples_do_not_see_each_other(forms: Forms) -> None:
    """A batch of one, and of one class alone, equals the rows of a larger batch."""
    inputs = problem()
    whole = ncmi_terms(*inputs, forms)
    whole_grad = inputs.gradients((whole.a / whole.b).sum())[0]
    for rows in ([2], [0, 4]):
        part = with_embedding(inputs, inputs.embedding[rows])._replace(target=inputs.target[rows])
        found = ncmi_terms(*part, forms)
        torch.testing.assert_close(found.a, whole.a[rows], rtol=1e-12, atol=0)
        torch.testing.assert_close(found.b, whole.b[rows], rtol=1e-12, atol=0)
        grads = part.gradients((found.a / found.b).sum())
        torch.testing.assert_close(grads[0], whole_grad[rows], rtol=1e-5, atol=1e-7)
        # Classes without samples are pushed away, which needs a gradient.
        assert (grads[2].norm(dim=1) > 0).all()


@all_forms
def test_a_class_without_weight_is_not_seen(forms: Forms) -> None:
    inputs = problem(batch=3)  # classes 0, 1 and 2
    inputs = inputs._replace(weights=torch.tensor([0.5, 0.2, 0.3, 0.0]))
    found = ncmi_terms(*inputs, forms)
    grads = inputs.gradients((found.a / found.b).sum())
    assert torch.equal(grads[2][3], torch.zeros(8))
    moved = inputs.classes.detach().clone()
    moved[3] += torch.linspace(-4, 4, 8)
    after = ncmi_terms(*with_classes(inputs, moved), forms)
    torch.testing.assert_close(after.b, found.b, rtol=1e-12, atol=0)


@all_forms
def test_only_the_own_class_has_weight(forms: Forms) -> None:
    """Γ of a sample is then empty: its floor keeps the ratio finite."""
    inputs = problem(batch=1)._replace(weights=torch.tensor([1.0, 0.0, 0.0, 0.0]))
    found = ncmi_terms(*inputs, forms)
    assert 0 <= found.b.item() < 1e-9
    assert all_finite(*inputs.gradients(found.b.sum()))


@all_forms
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_broken_embedding_stays_nan(value: float, forms: Forms) -> None:
    """It is not repaired, and no other sample notices."""
    plain = problem()
    z = plain.embedding.detach().clone()
    z[2, 3] = value
    broken = with_embedding(plain, z)
    found, expected = ncmi_terms(*broken, forms), ncmi_terms(*plain, forms)
    rest = [0, 1, 3, 4, 5]
    for have, want in zip(found, expected, strict=True):
        assert have[2].isnan().all()
        torch.testing.assert_close(have[rest], want[rest], rtol=1e-12, atol=0)
    grad = broken.gradients((found.a / found.b)[rest].sum())[0]
    assert all_finite(grad[rest])
    found = ncmi_terms(*broken, forms)
    assert broken.gradients((found.a / found.b).sum())[0][2].isnan().any()


@all_forms
def test_a_broken_class_makes_its_samples_and_every_separation_nan(forms: Forms) -> None:
    inputs = problem()
    activation = inputs.classes.detach().clone()
    activation[1, 0] = float("nan")
    found = ncmi_terms(*with_classes(inputs, activation), forms)
    of_the_class = inputs.target == 1
    assert torch.equal(found.a.isnan(), of_the_class)
    assert found.b[~of_the_class].isnan().all()


@all_forms
@pytest.mark.parametrize(("dtype", "eps"), [(torch.bfloat16, 2**-8), (torch.float16, 2**-11)])
def test_half_precision_embeddings(dtype: torch.dtype, eps: float, forms: Forms) -> None:
    """Values as exact as those of the same numbers in float64; gradients rounded to the dtype."""
    plain = problem()
    half = with_embedding(plain, plain.embedding.to(dtype))
    exact = Inputs(*(t.detach().double() if t.is_floating_point() else t for t in half))
    exact = exact._replace(
        embedding=exact.embedding.requires_grad_(),
        temperature=exact.temperature.requires_grad_(),
        classes=exact.classes.requires_grad_(),
    )
    found, expected = ncmi_terms(*half, forms), ncmi_terms(*exact, forms)
    torch.testing.assert_close(found.a, expected.a, rtol=1e-6, atol=0)
    torch.testing.assert_close(found.b, expected.b, rtol=1e-6, atol=0)
    have = half.gradients((found.a / found.b).mean())
    want = exact.gradients((expected.a / expected.b).mean())
    assert [g.dtype for g in have] == [dtype, torch.float32, torch.float32]
    for grad, truth, bound in zip(have, want, (eps, 1e-6, 1e-6), strict=True):
        assert (grad.double() - truth).norm() / truth.norm() < bound
