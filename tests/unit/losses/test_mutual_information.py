"""The objective of cross-entropy with Rényi mutual information: schedule, width, stacking."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap

from wsi_ncmi.losses import mutual_information
from wsi_ncmi.losses.functional import renyi
from wsi_ncmi.losses.mutual_information import MutualInformation, Options


def objective(epoch: int = 0, seed: int = 0, **options: object) -> MutualInformation:
    torch.manual_seed(seed)
    made = MutualInformation(5, [4, 4, 4], Options(**options)).double()  # type: ignore[arg-type]
    if epoch:
        made.end_epoch(epoch - 1)
    return made


def batch(seed: int = 1, n: int = 12) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(n, 5, generator=generator, dtype=torch.float64)
    return z, torch.arange(n) % 3


def test_first_epoch_is_cross_entropy_alone() -> None:
    made, (z, target) = objective(), batch()
    made(z, target).total.backward()
    found = made.head.weight.grad.clone()
    made.zero_grad()
    F.cross_entropy(made.head(z), target).backward()
    torch.testing.assert_close(found, made.head.weight.grad)


def test_one_sample_or_class_has_no_information() -> None:
    made = objective(epoch=3)
    z, target = batch()
    for rows in (slice(0, 1), target == 1):
        output = made(z[rows], target[rows])
        assert output.parts["mutual_information"].item() == pytest.approx(0, abs=1e-9)
        expected = 0.5 * output.parts["cross_entropy"].item()
        assert output.total.item() == pytest.approx(expected)


def test_information_rises_to_the_labels_entropy_when_it_is_all_there_is() -> None:
    made, target = objective(epoch=10**9, width=0.5), torch.arange(12) % 3
    z = batch()[0].requires_grad_()
    optimiser = torch.optim.SGD([z, *made.parameters()], 2.0)
    first = made(z, target).parts["mutual_information"].item()
    for _ in range(200):
        optimiser.zero_grad()
        made(z, target).total.backward()
        optimiser.step()
    last = made(z, target).parts["mutual_information"].item()
    assert first < 0.5
    assert last > 0.9 * math.log2(3)


def test_width_is_the_best_over_the_epochs_steps() -> None:
    made = objective(candidates=20).train()
    steps = [batch(seed) for seed in (1, 2, 3)]
    widths = renyi.width_candidates(2**0.5, 20)
    expected = torch.zeros(20, dtype=torch.float64)
    before = made.width.item()
    for z, target in steps:
        made(z, target)
        labels = renyi.label_gram(target)
        expected += renyi.alignments(labels, made.head(z).softmax(1), widths) / 3
    assert made.width.item() == before
    made.end_epoch(0)
    assert made.width.item() == pytest.approx(widths[expected.argmax()].item())
    assert made.width.item() != before
    made.end_epoch(1)  # an epoch without steps keeps it
    assert made.width.item() == pytest.approx(widths[expected.argmax()].item())


def test_start_takes_the_width_of_the_untrained_head() -> None:
    made, (z, target) = objective(candidates=20), batch()
    made.fit("start", z, target)
    found = renyi.aligned_width(
        renyi.label_gram(target), made.head(z).softmax(1), 20, mutual_information.LARGEST_WIDTH
    )
    assert made.width.item() == pytest.approx(found.width.item())


def test_start_takes_256_samples_spread_over_the_training_part() -> None:
    many = MutualInformation(5, [400, 300, 300], Options(candidates=20))
    few = copy.deepcopy(many)
    few.samples = 250
    z, target = (
        tensor.to(torch.float32) if tensor.ndim > 1 else tensor for tensor in batch(n=1000)
    )
    many.fit("start", z, target)
    few.fit("start", z[::4], target[::4])
    assert many.width.item() == few.width.item()
    one = MutualInformation(5, [400, 300, 300], Options(candidates=20))
    one.load_state_dict(many.state_dict())
    one.fit("start", z[1:], target[1:])  # others
    rows = slice(1, None, 4)
    found = renyi.aligned_width(
        renyi.label_gram(target[rows]),
        one.head(z[rows]).softmax(1),
        20,
        mutual_information.LARGEST_WIDTH,
    )
    assert one.width.item() == pytest.approx(found.width.item())


def test_a_given_width_stays() -> None:
    made, (z, target) = objective(width=0.3).train(), batch()
    made.fit("start", z, target)
    made(z, target)
    made.end_epoch(0)
    assert made.width.item() == pytest.approx(0.3)
    assert made.steps.item() == 0


def test_a_diverged_head_gives_nan_and_no_error() -> None:
    made, (z, target) = objective(epoch=2).train(), batch()
    made.head.weight.data[0, 0] = float("nan")
    assert made(z, target).total.isnan()


def test_stacked_objectives_equal_single_ones() -> None:
    singles = [objective(epoch=2, seed=s).train() for s in range(3)]
    batches = [batch(seed) for seed in range(3)]
    parameters, buffers = stack_module_state(singles)  # type: ignore[arg-type]
    buffers = {name: value.clone() for name, value in buffers.items()}
    base = copy.deepcopy(singles[0]).to("meta")
    z, target = (torch.stack(column) for column in zip(*batches, strict=True))

    def total(p: dict[str, Tensor], b: dict[str, Tensor], z: Tensor, target: Tensor) -> Tensor:
        return functional_call(base, (p, b), (z, target)).total

    totals = vmap(total)(parameters, buffers, z, target)
    totals.sum().backward()
    for i, single in enumerate(singles):
        own = single(*batches[i]).total
        own.backward()
        assert totals[i].item() == pytest.approx(own.item(), rel=1e-9)
        stacked = parameters["head.weight"].grad[i]
        torch.testing.assert_close(stacked, single.head.weight.grad, rtol=1e-6, atol=1e-9)
        torch.testing.assert_close(buffers["alignment_sums"][i], single.alignment_sums)


def test_compiles_as_one_graph() -> None:
    made, (z, target) = objective(epoch=2), batch()
    compiled = torch.compile(made, fullgraph=True, backend="aot_eager")
    assert compiled(z, target).total.item() == pytest.approx(made(z, target).total.item())


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"alpha": 1.0}, "alpha must be above 1, found 1.0"),
        ({"alpha": float("nan")}, "alpha must be a finite number, above 1, found nan"),
        ({"width": 0.0}, "width must be above 0, found 0.0"),
        ({"candidates": 0}, "candidates must be 1 or more, found 0"),
        ({"decay": -0.5}, "decay must be 0 or more, found -0.5"),
    ],
)
def test_options(options: dict[str, float], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Options(**options)  # type: ignore[arg-type]
