"""ACMIL against its equations, computed by loops over instances and branches."""

import itertools

import pytest
import torch
from made_published import (
    TARGETS,
    Model,
    assert_step,
    count,
    cross_entropy,
    gated_scores,
    made_bags,
    made_model,
    softmax,
    weighted,
)
from torch import Tensor

from wsi_ncmi.aggregators import acmil


def masked_rows(scores: list[Tensor], most: int, share: float) -> list[list[int]]:
    """The rows that each branch masks, by the random numbers of the model: [M][⌊p K⌋]."""
    found, branches = [], len(scores[0])
    most = min(most, len(scores))
    draws = torch.rand(most, branches)
    for i in range(branches):
        attended = sorted(range(len(scores)), key=lambda n: -scores[n][i].item())[:most]
        ranks = sorted(range(most), key=lambda rank: draws[rank, i].item())
        found.append([attended[rank] for rank in ranks[: int(share * most)]])
    return found


def naive(model: Model, most: int, share: float, weights: tuple[float, float]) -> Tensor:
    state = dict(model.aggregator.named_parameters())
    bags = made_bags()
    branches = len(state["attention.score.weight"])
    logits, of_branches, cosines = [], [[] for _ in range(branches)], []
    for bag in bags.split(bags.features):
        hidden = [torch.relu(state["instance.0.weight"] @ x) for x in bag]
        scores = gated_scores(state, "attention", hidden)
        masked = masked_rows(scores, most, share)
        maps = []
        for i in range(branches):
            seen = [n for n in range(len(hidden)) if n not in masked[i]]
            weight = dict(zip(seen, softmax([scores[n][i] for n in seen]), strict=True))
            zero = torch.zeros((), dtype=torch.float64)
            maps.append(torch.stack([weight.get(n, zero) for n in range(len(hidden))]))
            embedding = weighted(list(maps[i]), hidden)
            of_branches[i].append(model.logits(f"branch_{i}", embedding))
        mean = sum(maps) / branches
        logits.append(model.logits("", weighted(list(mean), hidden)))
        pairs = list(itertools.combinations(maps, 2))
        cosines.append(sum((a @ b) / (a.norm() * b.norm()) for a, b in pairs) / len(pairs))
    loss = cross_entropy(torch.stack(logits), TARGETS)
    semantic = sum(cross_entropy(torch.stack(found), TARGETS) for found in of_branches) / branches
    return loss + weights[0] * semantic + weights[1] * sum(cosines) / len(bags)


@pytest.mark.parametrize(
    ("options", "weights"),
    [
        ({}, (1, 1)),
        ({"branches": 2, "masked_of": 4, "masked_share": 0.5}, (1, 1)),
        ({"masked_of": 0, "branch_weight": 0.3, "diversity_weight": 0.7}, (0.3, 0.7)),
    ],
)
def test_loss_and_gradients(options: dict[str, float], weights: tuple[float, float]) -> None:
    model = made_model(acmil, **options)
    most, share = options.get("masked_of", 10), options.get("masked_share", 0.6)
    assert_step(model, lambda: naive(model, most, share, weights))


def zeros(model: Model, sizes: tuple[int, ...]) -> Tensor:
    """Which weights [T, M] are zero."""
    return model.aggregator(made_bags(sizes)).attention == 0


def test_six_of_the_ten_most_attended_are_masked_in_training() -> None:
    """The released script passes the number of branches, 5, as K: it masks 3 of 5."""
    model = made_model(acmil)
    unmasked = model.aggregator.eval()(made_bags((40,))).attention
    masked = zeros(Model(model.aggregator.train(), model.heads), (40,))
    assert masked.sum(0).tolist() == [6] * 5
    for i in range(5):
        assert set(masked[:, i].nonzero().flatten().tolist()) < set(
            unmasked[:, i].topk(10).indices.tolist()
        )


def test_each_branch_and_bag_draws_its_own_mask() -> None:
    model = made_model(acmil)
    with torch.no_grad():  # branches that attend alike
        weight = model.aggregator.get_parameter("attention.score.weight")
        weight.copy_(weight[:1].expand_as(weight))
    bag = made_bags((30,)).features
    first, second = zeros(model, (30,)), zeros(model, (30,))
    assert not torch.equal(first, second)
    assert len({tuple(row.tolist()) for row in first.T}) > 1
    assert len(bag) == len(first)


@pytest.mark.parametrize(("size", "masked"), [(1, 0), (2, 1), (3, 1), (5, 3), (9, 5)])
def test_a_small_bag_is_never_masked_as_a_whole(size: int, masked: int) -> None:
    assert zeros(made_model(acmil), (size,)).sum(0).tolist() == [masked] * 5


def test_evaluation_masks_nothing_and_has_no_penalty() -> None:
    model = made_model(acmil)
    output = model.aggregator.eval()(made_bags())
    assert (output.attention > 0).all()
    assert output.penalty is None


def test_the_rest_of_the_bag_gets_what_is_masked() -> None:
    model = made_model(acmil)
    whole = model.aggregator.eval()(made_bags((40,))).attention
    masked = model.aggregator.train()(made_bags((40,))).attention
    seen = masked > 0
    kept = (whole * seen).sum(0)
    torch.testing.assert_close(masked, whole * seen / kept, rtol=1e-12, atol=1e-15)


def test_one_branch_is_gated_abmil() -> None:
    model = made_model(acmil, branches=1, masked_of=0)
    assert not model.aggregator.auxiliaries
    output = model.aggregator(made_bags(), TARGETS)
    assert output.penalty is None
    assert not output.auxiliary


@pytest.mark.parametrize(
    ("dim", "width", "branches", "millions"),
    [(512, 256, 1, 201), (512, 256, 5, 202), (384, 128, 1, 84), (384, 128, 5, 85)],
)
def test_size_of_the_published_model(dim: int, width: int, branches: int, millions: int) -> None:
    """The paper's tables 6 and 7: millions of multiplications, of a bag of 1,024 instances."""
    built = acmil.build(dim, 2, acmil.Options(hidden_dim=width, branches=branches))
    weights = [p for p in built.parameters() if p.ndim == 2]
    assert round(1024 * sum(p.numel() for p in weights) / 1e6) == millions
    assert count(built) == dim * width + 2 * (width + 1) * 128 + 128 * branches
