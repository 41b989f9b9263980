"""Objectives see the samples of a phase in batches: the result is that of all at once."""

import copy
import itertools
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap

from wsi_ncmi.losses.centre_loss import CentreLoss
from wsi_ncmi.losses.ncmi import NCMI
from wsi_ncmi.losses.ncmi_mixture import FIT_STEPS, NCMIMixture
from wsi_ncmi.losses.objective import Objective, Phase
from wsi_ncmi.losses.temperature import fitted_log_scale

Build = Callable[..., Objective]
Batch = Callable[..., tuple[Tensor, Tensor]]
PHASES: tuple[Phase, ...] = ("start", "classes", "temperature")
SIZES = (7, 1, 16, 3, 13)  # 40 samples


def states(objective: Objective) -> Iterator[tuple[str, Tensor]]:
    yield from objective.named_parameters()
    yield from objective.named_buffers()


def parts(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    return zip(
        *(tensor.split(SIZES, -2 if tensor.ndim > 1 else 0) for tensor in tensors), strict=True
    )


@pytest.mark.parametrize("phase", PHASES)
def test_batches_of_odd_sizes_leave_what_all_at_once_leaves(
    build: Build, batch: Batch, phase: Phase
) -> None:
    whole, streamed = build(), build()
    z, target = batch(40)
    whole.fit(phase, z, target)
    for _ in range(streamed.passes(phase)):
        for each in parts(z, target):
            streamed.collect(phase, *each)
        streamed.finish(phase)
    expected = dict(states(whole))
    for name, value in states(streamed):
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-6, msg=name)
    before = dict(states(build()))
    changed = [name for name, value in states(streamed) if not torch.equal(value, before[name])]
    assert bool(changed) == (streamed.passes(phase) > 0)


def test_a_phase_starts_anew(build: Build, batch: Batch) -> None:
    """What is fitted twice is fitted to the second samples alone."""
    twice, once = build(), build()
    for phase in PHASES:
        twice.fit(phase, *batch(40, seed=1))
        twice.fit(phase, *batch(40))
        once.fit(phase, *batch(40))
    expected = dict(states(once))
    for name, value in states(twice):
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.parametrize("phase", ["start", "classes"])
@pytest.mark.parametrize("shared_targets", [True, False])
def test_a_stack_collects_as_its_objectives(
    build: Build, batch: Batch, phase: Phase, shared_targets: bool
) -> None:
    singles = [build(seed) for seed in range(3)]
    drawn = [batch(40, seed) for seed in range(3)]
    z, target = (torch.stack(column) for column in zip(*drawn, strict=True))
    if shared_targets:
        target = target[:1].expand(3, -1)
    parameters, buffers = stack_module_state(singles)  # type: ignore[arg-type]
    base = copy.deepcopy(singles[0]).to("meta")

    class Method(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.objective = base

        def forward(self, name: str, *arguments: Tensor) -> None:
            getattr(self.objective, name)(phase, *arguments)

    module = Method()
    state = {f"objective.{n}": v for n, v in (parameters | buffers).items()}

    def mapped(name: str, *arguments: Tensor) -> None:
        def one(state: dict[str, Tensor], *arguments: Tensor) -> Tensor:
            functional_call(module, state, (name, *arguments))
            return next(iter(state.values()))  # a mapped function returns something

        dims = [None if argument.ndim == 1 else 0 for argument in arguments]
        vmap(one, (0, *dims), randomness="same")(state, *arguments)

    sizes = torch.tensor((0, *SIZES)).cumsum(0).tolist()
    for _ in range(base.passes(phase)):
        for first, last in itertools.pairwise(sizes):
            labels = target[0, first:last] if shared_targets else target[:, first:last]
            mapped("collect", z[:, first:last], labels)
        mapped("finish")
    for single, own, labels in zip(singles, z, target, strict=True):
        single.fit(phase, own, labels)
    for name, value in buffers.items():
        expected = torch.stack([dict(single.named_buffers())[name] for single in singles])
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6, msg=name)


def test_passes_say_what_is_needed() -> None:
    """No pass over the network for a phase of which an objective needs nothing."""
    for objective, start, classes in (
        (NCMI(4, [3, 3]), 2, 1),
        (NCMIMixture(4, [3, 3]), 1 + FIT_STEPS, FIT_STEPS),
        (CentreLoss(4, [3, 3]), 1, 0),
    ):
        assert [objective.passes(phase) for phase in PHASES] == [start, classes, 1]


def test_temperature_without_samples_is_an_error(build: Build) -> None:
    with pytest.raises(ValueError, match=r"no validation samples: collect\(\"temperature\""):
        build().finish("temperature")


def test_the_fitted_scale_is_that_of_many_models(build: Build, batch: Batch) -> None:
    singles = [build(seed) for seed in range(3)]
    z, target = batch(40)
    raw = torch.stack([single.raw_scores(z) for single in singles]).detach()
    for single in singles:
        single.fit("temperature", z, target)
    found = fitted_log_scale(raw, target, 40)
    expected = torch.stack([single.log_scale for single in singles])
    torch.testing.assert_close(found.float(), expected)
