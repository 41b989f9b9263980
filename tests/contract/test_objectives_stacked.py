"""Many objectives as one, by torch.func: a stack of three equals the three, step by step."""

import copy
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap

from wsi_ncmi.losses.objective import Objective

SEEDS = range(3)
Start = Callable[..., Objective]
Batch = Callable[..., tuple[Tensor, Tensor]]


class Method(nn.Module):
    """A method of an objective as a module's forward: what functional_call can call."""

    def __init__(self, objective: Objective, name: str) -> None:
        super().__init__()
        self.objective, self.name = objective, name

    def forward(self, *arguments: Any) -> Any:
        return getattr(self.objective, self.name)(*arguments)


class Stack:
    """Objectives with a model axis: their tensors stacked, their methods mapped over it."""

    def __init__(self, singles: list[Objective]) -> None:
        parameters, buffers = stack_module_state(singles)  # type: ignore[arg-type]
        self.parameters = parameters
        self.buffers = {name: value.clone() for name, value in buffers.items()}
        self.base = copy.deepcopy(singles[0]).to("meta")

    def loss(self, method: str, z: Tensor, target: Tensor, target_dim: int | None = 0) -> Tensor:
        """Losses [K] of `forward` or `state_loss`."""

        def one(parameters: dict, buffers: dict, z: Tensor, target: Tensor) -> Tensor:
            output = self._call(method, parameters, buffers, z, target)
            return output if isinstance(output, Tensor) else output.total

        dims = (0, 0, 0, target_dim)
        return vmap(one, dims)(self.parameters, self.buffers, z, target)

    def inner_gradients(self, z: Tensor, target: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Gradients by the embeddings and the parameters, taken inside the map."""

        def total(z: Tensor, parameters: dict, buffers: dict, target: Tensor) -> Tensor:
            return self._call("forward", parameters, buffers, z, target).total

        gradients = grad(total, (0, 1))
        return vmap(gradients)(z, self.parameters, self.buffers, target)

    def move(self, method: str, *arguments: int) -> None:
        """`end_step` or `end_epoch`."""

        def one(parameters: dict, buffers: dict) -> dict:
            self._call(method, parameters, buffers, *arguments)
            return buffers  # a mapped function returns something

        vmap(one)(self.parameters, self.buffers)

    def _call(self, method: str, parameters: dict, buffers: dict, *arguments: Any) -> Any:
        tensors = {f"objective.{name}": value for name, value in (parameters | buffers).items()}
        return functional_call(Method(self.base, method), tensors, arguments)


@pytest.fixture
def singles(started: Start) -> list[Objective]:
    objectives = [started(seed) for seed in SEEDS]
    if not objectives[0].stackable:
        pytest.skip(
            f"{type(objectives[0]).__name__} looks at its data (stackable = False): not for vmap"
        )
    return objectives


def batches(batch: Batch, number: int) -> tuple[Tensor, Tensor]:
    """Embeddings [K, B, m] with a gradient and targets [K, B]."""
    drawn = [batch(8, 10 * number + seed) for seed in SEEDS]
    z, target = (torch.stack(column) for column in zip(*drawn, strict=True))
    return z.requires_grad_(), target


def close(found: Tensor, expected: Iterable[Tensor], name: str) -> None:
    torch.testing.assert_close(
        found,
        torch.stack(list(expected)),
        rtol=1e-4,
        atol=1e-6,
        msg=lambda text: f"{name}: {text}",
    )


def close_gradients(found: dict[str, Tensor | None], singles: list[Objective]) -> None:
    for name, gradient in found.items():
        own = [single.get_parameter(name).grad for single in singles]
        if own[0] is None:
            assert gradient is None or not gradient.any(), name
        else:
            assert gradient is not None, name
            close(gradient, own, f"gradient of {name}")  # type: ignore[arg-type]


def close_buffers(stack: Stack, singles: list[Objective]) -> None:
    for name, value in stack.buffers.items():
        close(value, [single.get_buffer(name) for single in singles], name)


def clear_gradients(stack: Stack, singles: list[Objective]) -> None:
    for parameter in stack.parameters.values():
        parameter.grad = None
    for single in singles:
        single.zero_grad()


def compare_losses(
    stack: Stack, singles: list[Objective], method: str, z: Tensor, target: Tensor
) -> None:
    """Losses of a method, and gradients whose backward pass runs outside the map."""
    own = [getattr(s, method)(*pair) for s, *pair in zip(singles, z, target, strict=True)]
    if own[0] is None:
        return
    own = [output if isinstance(output, Tensor) else output.total for output in own]
    losses = stack.loss(method, z, target)
    close(losses, own, method)
    sources = [*stack.parameters.values(), z]
    found = torch.autograd.grad(losses.sum(), sources, allow_unused=True)
    torch.stack(own).sum().backward()
    close_gradients(dict(zip(stack.parameters, found[:-1], strict=True)), singles)
    if method == "forward":
        close(found[-1], z.grad, "gradient of the embedding")
    clear_gradients(stack, singles)


def test_a_stack_trains_as_its_objectives(singles: list[Objective], batch: Batch) -> None:
    stack = Stack(singles)
    for number in range(2):
        z, target = batches(batch, number)
        compare_losses(stack, singles, "state_loss", z, target)
        compare_losses(stack, singles, "forward", z, target)
        close_buffers(stack, singles)
        stack.move("end_step")
        for single in singles:
            single.end_step()
        close_buffers(stack, singles)
    stack.move("end_epoch", 1)
    for single in singles:
        single.end_epoch(1)
    close_buffers(stack, singles)
    compare_losses(stack, singles, "forward", *batches(batch, 2))


def test_gradients_inside_the_map(singles: list[Objective], batch: Batch) -> None:
    stack, (z, target) = Stack(singles), batches(batch, 0)
    by_z, by_parameters = stack.inner_gradients(z.detach(), target)
    own = [single(*pair).total for single, *pair in zip(singles, z, target, strict=True)]
    torch.stack(own).sum().backward()
    close(by_z, z.grad, "gradient of the embedding")
    close_gradients(by_parameters, singles)
    close_buffers(stack, singles)


def test_objectives_may_share_targets(singles: list[Objective], batch: Batch) -> None:
    stack, (z, target) = Stack(singles), batches(batch, 0)
    losses = stack.loss("forward", z, target[0], target_dim=None)
    own = [single(each, target[0]).total for single, each in zip(singles, z, strict=True)]
    close(losses, own, "forward")
    close_buffers(stack, singles)


# Objectives that take stacks as they are


class Plain(Stack):
    """A stack whose methods are called without a map."""

    def loss(self, method: str, z: Tensor, target: Tensor, target_dim: int | None = 0) -> Tensor:
        output = self._call(method, self.parameters, self.buffers, z, target)
        return output if isinstance(output, Tensor) else output.total

    def move(self, method: str, *arguments: Any) -> None:
        self._call(method, self.parameters, self.buffers, *arguments)


@pytest.fixture
def taken(singles: list[Objective]) -> list[Objective]:
    if not singles[0].takes_stacks:
        pytest.skip(f"{type(singles[0]).__name__} has to be mapped over (takes_stacks = False)")
    return singles


def test_a_stack_taken_as_it_is_trains_as_its_objectives(
    taken: list[Objective], batch: Batch
) -> None:
    stack = Plain(taken)
    for number in range(2):
        z, target = batches(batch, number)
        compare_losses(stack, taken, "state_loss", z, target)
        compare_losses(stack, taken, "forward", z, target)
        stack.move("end_step")
        for single in taken:
            single.end_step()
        close_buffers(stack, taken)
    stack.move("end_epoch", 1)
    for single in taken:
        single.end_epoch(1)
    z, target = batches(batch, 2)
    losses = stack.loss("forward", z, target[0])  # shared targets
    own = [single(each, target[0]).total for single, each in zip(taken, z, strict=True)]
    close(losses, own, "forward")
    close_buffers(stack, taken)


def test_a_stack_taken_as_it_is_fits_and_scores_as_its_objectives(
    taken: list[Objective], batch: Batch
) -> None:
    stack = Plain(taken)
    z, target = batches(batch, 0)
    for phase in ("start", "classes"):
        for _ in range(taken[0].passes(phase)):
            stack.move("collect", phase, z.detach(), target)
            stack.move("finish", phase)
        for single, *pair in zip(taken, z.detach(), target, strict=True):
            single.fit(phase, *pair)
        close_buffers(stack, taken)
    with torch.no_grad():
        for name in ("raw_scores", "scores"):
            found = stack._call(name, stack.parameters, stack.buffers, z)
            close(found, [getattr(s, name)(each) for s, each in zip(taken, z, strict=True)], name)
