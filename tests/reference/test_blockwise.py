"""Heads by class blocks, and objectives whose embedding is class scores already."""

import math
from dataclasses import fields

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from wsi_ncmi import registry
from wsi_ncmi.losses.classifier import Classifier, take_scores
from wsi_ncmi.losses.objective import Objective

CLASSES, WIDTH, COUNTS = 3, 4, [12, 5, 3]
DIM = CLASSES * WIDTH


def options_of(name: str) -> set[str]:
    return {field.name for field in fields(registry.load("objective", name).Options)}


BLOCKWISE = [name for name in registry.names("objective") if "blockwise" in options_of(name)]


def made(name: str, dim: int = DIM, **options: bool) -> Objective:
    module = registry.load("objective", name)
    torch.manual_seed(0)
    return module.build(dim, COUNTS, module.Options(**options)).double()


def test_every_objective_of_logits_has_the_option() -> None:
    classifiers = {n for n in registry.names("objective") if isinstance(made(n), Classifier)}
    assert set(BLOCKWISE) == classifiers - {"supcon"}  # whose head is a probe


@pytest.mark.parametrize("name", BLOCKWISE)
def test_a_class_sees_its_own_block(name: str) -> None:
    objective = made(name, blockwise=True)
    z = torch.randn(5, DIM, dtype=torch.float64)
    weight, bias = objective.head.weight, objective.head.bias
    assert weight.shape == (CLASSES, WIDTH)
    expected = torch.stack(
        [z[:, WIDTH * c : WIDTH * (c + 1)] @ weight[c] + bias[c] for c in range(CLASSES)], 1
    )
    torch.testing.assert_close(objective.raw_scores(z), expected)
    (gradient,) = torch.autograd.grad(objective.raw_scores(z.requires_grad_())[:, 1].sum(), z)
    assert gradient[:, WIDTH : 2 * WIDTH].any()
    assert not gradient[:, :WIDTH].any()
    assert not gradient[:, 2 * WIDTH :].any()


@pytest.mark.parametrize("name", BLOCKWISE)
def test_blockwise_is_linear_with_zeros_outside_the_blocks(name: str) -> None:
    blocks, full = made(name, blockwise=True).eval(), made(name).eval()
    with torch.no_grad():
        full.head.weight.copy_(torch.block_diag(*blocks.head.weight))
        full.head.bias.copy_(blocks.head.bias)
    z, target = torch.randn(6, DIM, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1, 2])
    for objective in (blocks, full):
        objective.fit("start", z, target)
        objective.end_epoch(0)
    found, expected = blocks(z, target).total, full(z, target).total
    torch.testing.assert_close(found, expected)
    found.backward()
    expected.backward()
    rows = full.head.weight.grad.view(CLASSES, CLASSES, WIDTH)
    torch.testing.assert_close(blocks.head.weight.grad, rows.diagonal(dim1=0, dim2=1).T)


def test_blocks_start_as_layers_of_their_own() -> None:
    weight = torch.cat([made("cross_entropy", blockwise=True).head.weight.flatten()])
    bound = 1 / math.sqrt(WIDTH)  # of nn.Linear(WIDTH, 1)
    assert 0.8 * bound < weight.abs().max() < bound


@pytest.mark.parametrize(("dim", "found"), [(DIM + 1, DIM + 1), (CLASSES - 1, CLASSES - 1)])
def test_an_embedding_without_equal_blocks_is_refused(dim: int, found: int) -> None:
    with pytest.raises(ValueError, match=rf"embedding of {found} is not 3 blocks .*blockwise: f"):
        made("cross_entropy", dim, blockwise=True)


def test_scores_are_the_embedding_of_an_objective_that_takes_them() -> None:
    objective = take_scores(made("cross_entropy", CLASSES))
    assert not list(objective.parameters())
    scores, target = torch.randn(6, CLASSES, dtype=torch.float64), torch.arange(6) % CLASSES
    assert torch.equal(objective.raw_scores(scores), scores)
    found = objective(scores.requires_grad_(), target).total
    expected = F.cross_entropy(scores, target)
    torch.testing.assert_close(found, expected)
    (gradient,) = torch.autograd.grad(found, scores, retain_graph=True)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, scores)[0])


@pytest.mark.parametrize("name", registry.names("objective"))
def test_every_objective_takes_scores(name: str) -> None:
    objective = take_scores(made(name, CLASSES))
    assert isinstance(getattr(objective, "head", nn.Identity()), nn.Identity)
    scores, target = torch.randn(6, CLASSES, dtype=torch.float64), torch.arange(6) % CLASSES
    objective.fit("start", scores, target)
    assert torch.isfinite(objective(scores, target).total)
    assert objective.raw_scores(scores).shape == (6, CLASSES)


def test_scores_have_one_dimension_for_each_class() -> None:
    with pytest.raises(ValueError, match=r"3 class scores are an embedding of as many .* found 12"):
        take_scores(made("cross_entropy"))
