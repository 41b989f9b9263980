"""One training step of a published model: an aggregator under cross-entropy, in float64."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from wsi_ncmi.aggregators.bags import BagBatch
from wsi_ncmi.aggregators.interface import Aggregator, BagOutput

DIM, CLASSES = 6, 3
SIZES = (7, 1, 12, 3)
TARGETS = torch.tensor([0, 1, 2, 0])


@dataclass(frozen=True)
class Model:
    """An aggregator and the linear heads of its losses; "" names the bag's.

    `blockwise`: the bag's class scores are each of a block of the embedding, w_c · z_c + b_c.
    """

    aggregator: Aggregator
    heads: Mapping[str, tuple[Tensor, Tensor]]
    blockwise: bool = False

    def parameters(self) -> dict[str, Tensor]:
        found = dict(self.aggregator.named_parameters())
        for name, (weight, bias) in self.heads.items():
            found |= {f"head {name}.weight": weight, f"head {name}.bias": bias}
        return found

    def logits(self, name: str, embedding: Tensor) -> Tensor:
        """Class scores [n, C] by a head; embeddings that are scores have none."""
        if name not in self.heads:
            return embedding
        weight, bias = self.heads[name]
        if self.blockwise and not name:
            embedding = embedding.unflatten(-1, weight.shape)
            return (embedding * weight).sum(-1) + bias
        return embedding @ weight.T + bias

    def loss(self, output: BagOutput, targets: Tensor) -> Tensor:
        """The total that is trained."""
        found = output.bag_weight * cross_entropy(self.logits("", output.embedding), targets)
        for name, (embedding, target, weight) in output.auxiliary.items():
            if len(target) == 0:
                continue
            found = found + weight * cross_entropy(self.logits(name, embedding), target)
        return found if output.penalty is None else found + output.penalty


def made_model(
    module: ModuleType, classes: int = CLASSES, blockwise: bool = False, **options: Any
) -> Model:
    """A small model in training mode, with the start of seed 0."""
    torch.manual_seed(0)
    narrow = {"hidden_dim": 8, "attention_dim": 5}
    known = module.Options.__dataclass_fields__
    options = {**{k: v for k, v in narrow.items() if k in known}, **options}
    built = module.build(DIM, classes, module.Options(**options)).double().train()
    parts = {name: (one.classes, one.dim) for name, one in built.auxiliaries.items()}
    shapes = {"": (classes, built.embedding_dim // (classes if blockwise else 1)), **parts}
    scores = {name for name, one in built.auxiliaries.items() if one.scores}
    heads = {
        name: (_leaf(number, dim), _leaf(number))
        for name, (number, dim) in shapes.items()
        if name not in scores
    }
    return Model(built, heads, blockwise)


def made_bags(sizes: tuple[int, ...] = SIZES) -> BagBatch:
    rng = torch.Generator().manual_seed(1)
    return BagBatch.of([torch.randn(n, DIM, generator=rng, dtype=torch.float64) for n in sizes])


def assert_step(
    model: Model,
    naive: Callable[[], Tensor],
    seed: int = 3,
    bags: BagBatch | None = None,
    targets: Tensor = TARGETS,
) -> None:
    """The model's loss and gradients are those of a naive rewrite, of the same random numbers."""
    parameters, given = model.parameters(), made_bags() if bags is None else bags
    results = []
    for loss in (lambda: model.loss(model.aggregator(given, targets), targets), naive):
        torch.manual_seed(seed)
        total = loss()
        gradients = torch.autograd.grad(total, list(parameters.values()), materialize_grads=True)
        results.append((total, dict(zip(parameters, gradients, strict=True))))
    (found, found_gradients), (expected, expected_gradients) = results
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    for name, gradient in expected_gradients.items():
        difference = (found_gradients[name] - gradient).abs().max().item()
        assert difference <= 1e-8 * gradient.abs().max().item() + 1e-11, name


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(logits, targets)


def gated_scores(state: Mapping[str, Tensor], part: str, hidden: list[Tensor]) -> list[Tensor]:
    """wᵀ(tanh(V h) ⊙ σ(U h)) [K] of each instance."""
    scores = []
    for h in hidden:
        tanh = torch.tanh(state[f"{part}.tanh.weight"] @ h + state[f"{part}.tanh.bias"])
        gate = torch.sigmoid(state[f"{part}.gate.weight"] @ h + state[f"{part}.gate.bias"])
        scores.append(state[f"{part}.score.weight"] @ (tanh * gate))
    return scores


def softmax(scores: list[Tensor]) -> list[Tensor]:
    exponentials = [score.exp() for score in scores]
    total = sum(exponentials)
    return [value / total for value in exponentials]


def weighted(weights: list[Tensor], values: list[Tensor]) -> Tensor:
    return sum(w * value for w, value in zip(weights, values, strict=True))


def count(aggregator: Aggregator) -> int:
    return sum(p.numel() for p in aggregator.parameters())


def _leaf(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64).requires_grad_()
