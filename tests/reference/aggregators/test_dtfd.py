"""DTFD-MIL against its equations, computed by loops over pseudo-bags and instances."""

from typing import Any

import numpy as np
import pytest
import torch
from made_published import (
    CLASSES,
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

from wsi_ncmi.aggregators import dtfd
from wsi_ncmi.aggregators.bags import BagBatch

SELECTING = ["MaxS", "MaxMinS", "MAS"]


def grad_cam(model: Model, attention: list[Tensor], hidden: list[Tensor]) -> tuple[Tensor, Tensor]:
    """p [K, C] of equations 8 and 9, by the gradient of the class scores; and these [C]."""
    number = len(hidden)
    maps = [
        (number * a * h).detach().requires_grad_() for a, h in zip(attention, hidden, strict=True)
    ]
    scores = model.aggregator.classifier(sum(maps) / number)
    activation = []
    for score in scores:
        gradients = torch.autograd.grad(score, maps, retain_graph=True)
        beta = sum(gradients) / number
        activation.append(torch.stack([(beta * one).sum() for one in maps]))
    return torch.stack(activation, 1).softmax(1).detach(), scores.detach()


def passed_on(model: Model, attention: list[Tensor], hidden: list[Tensor]) -> list[Tensor]:
    """What a pseudo-bag passes on to tier 2."""
    options = model.aggregator.options
    if options.distillation == "AFS":
        return [weighted(attention, hidden)]
    if options.distillation == "MAS":
        rank = [a.item() for a in attention]
    else:
        p, scores = grad_cam(model, attention, hidden)
        wanted = 1 if len(scores) == 2 else int(scores.argmax())
        rank = p[:, wanted].tolist()
    rows = sorted(range(len(rank)), key=lambda k: -rank[k])
    chosen = rows[: options.distilled]
    if options.distillation == "MaxMinS":
        chosen += [k for k in rows[-options.distilled :] if k not in chosen]
    return [hidden[k] for k in chosen]


def divided(size: int, number: int, training: bool) -> list[list[int]]:
    """Rows of each pseudo-bag; in training by the random numbers of the model."""
    order = torch.randperm(size).tolist() if training else list(range(size))
    return [order[first :: min(number, size)] for first in range(min(number, size))]


def naive(model: Model, targets: Tensor = TARGETS) -> tuple[Tensor, Tensor]:
    """L₁ and L₂."""
    state, options = dict(model.aggregator.named_parameters()), model.aggregator.options
    bags = made_bags()
    tier1, of_pseudo_bags, tier2 = [], [], []
    for bag, target in zip(bags.split(bags.features), targets, strict=True):
        distilled: list[Tensor] = []
        for rows in divided(len(bag), options.pseudo_bags, True):
            hidden = [torch.relu(state["instance.0.weight"] @ bag[k]) for k in rows]
            attention = softmax(gated_scores(state, "tier1", hidden))
            pooled = weighted(attention, hidden)
            classifier = model.aggregator.classifier
            tier1.append(
                model.logits("pseudo_bags", pooled) if classifier is None else classifier(pooled)
            )
            of_pseudo_bags.append(target)
            distilled += passed_on(model, attention, hidden)
        if not options.joint:
            distilled = [f.detach() for f in distilled]
        weights = softmax(gated_scores(state, "tier2", distilled))
        tier2.append(model.logits("", weighted(weights, distilled)))
    first = cross_entropy(torch.stack(tier1), torch.stack(of_pseudo_bags))
    return options.tier1_weight * first, cross_entropy(torch.stack(tier2), targets)


@pytest.mark.parametrize("joint", [False, True], ids=["apart", "joint"])
@pytest.mark.parametrize("distillation", ["AFS", *SELECTING])
def test_loss_and_gradients(distillation: str, joint: bool) -> None:
    model = made_model(dtfd, distillation=distillation, joint=joint, tier1_weight=0.8)
    assert_step(model, lambda: sum(naive(model)))


@pytest.mark.parametrize("options", [{"pseudo_bags": 2, "distilled": 2}, {"pseudo_bags": 1}])
def test_other_numbers(options: dict[str, Any]) -> None:
    model = made_model(dtfd, distillation="MaxMinS", **options)
    assert_step(model, lambda: sum(naive(model)))


def test_two_classes_rank_by_the_positive_one() -> None:
    model = made_model(dtfd, classes=2, distillation="MaxS", pseudo_bags=2)
    bags, targets = made_bags(), TARGETS % 2
    torch.manual_seed(3)
    found = model.loss(model.aggregator(bags, targets), targets)
    torch.manual_seed(3)
    torch.testing.assert_close(found, sum(naive(model, targets)), rtol=1e-10, atol=1e-12)


def test_each_tier_learns_its_own_loss() -> None:
    """θ₁ = argmin L₁ and θ₂ = argmin L₂; jointly, L₂ trains tier 1, too."""
    for joint in (False, True):
        model = made_model(dtfd, joint=joint)
        output = model.aggregator(made_bags(), TARGETS)
        loss = cross_entropy(model.logits("", output.embedding), TARGETS)
        loss.backward()
        reached = {
            name.partition(".")[0]
            for name, parameter in model.aggregator.named_parameters()
            if parameter.grad is not None
        }
        assert reached == ({"instance", "tier1", "tier2"} if joint else {"tier2"})


@pytest.mark.parametrize(
    ("size", "pseudo_bags", "expected"),
    [(40, 4, 8), (40, 5, 10), (41, 8, 16), (7, 4, 7), (3, 4, 3), (2, 4, 2), (1, 4, 1)],
)
def test_max_min_selects_two_of_each_pseudo_bag(size: int, pseudo_bags: int, expected: int) -> None:
    """The released code selects ⌊4 / M⌋ at each end: with M = 5 the last none, `[-0:]`, are all."""
    model = made_model(dtfd, distillation="MaxMinS", pseudo_bags=pseudo_bags)
    for training in (True, False):
        attention = model.aggregator.train(training)(made_bags((size,))).attention
        assert torch.count_nonzero(attention) == expected


def test_equal_instances_are_not_selected_twice() -> None:
    model = made_model(dtfd, distillation="MaxMinS", pseudo_bags=1)
    bags = BagBatch.of([torch.ones(5, 6, dtype=torch.float64)])
    attention = model.aggregator.eval()(bags).attention
    assert torch.count_nonzero(attention) == 2


def test_instances_are_ranked_by_class_and_not_by_attention() -> None:
    """Two instances of each class direction; all have the same attention."""
    aggregator = made_model(dtfd, classes=2, distillation="MaxS", pseudo_bags=1).aggregator.eval()
    with torch.no_grad():
        aggregator.get_parameter("tier1.score.weight").zero_()
        aggregator.get_parameter("instance.0.weight").copy_(torch.eye(8, 6))
        aggregator.classifier.weight.copy_(torch.eye(2, 8))
    instances = torch.zeros(4, 6, dtype=torch.float64)
    instances[0, 0], instances[1, 0] = 3, 1  # class 0
    instances[2, 1], instances[3, 1] = 1, 2  # class 1: the last most of all
    found = aggregator(BagBatch.of([instances]))
    assert found.attention.flatten().tolist() == [0, 0, 0, 1]
    assert torch.equal(found.embedding[0], torch.relu(torch.eye(8, 6).double() @ instances[3]))


@pytest.mark.parametrize("distillation", ["AFS", *SELECTING])
def test_attention_is_the_weight_of_each_instance(distillation: str) -> None:
    """Both tiers' attention together, in the order of the bag."""
    model = made_model(dtfd, distillation=distillation)
    bags = made_bags()
    for training in (True, False):
        found = model.aggregator.train(training)(bags)
        rows = bags.split(found.attention * found.instance_embedding)
        expected = torch.stack([bag.sum(0) for bag in rows])
        torch.testing.assert_close(found.embedding, expected, rtol=1e-12, atol=1e-14)
        hidden = torch.relu(bags.features @ model.aggregator.instance[0].weight.T)
        torch.testing.assert_close(found.instance_embedding, hidden, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("size", [1, 3, 4, 13, 40])
def test_pseudo_bags_are_a_division_of_nearly_equal_parts(size: int) -> None:
    aggregator = made_model(dtfd).aggregator
    for training in (True, False):
        order, pseudo, parent = aggregator.train(training)._divide(made_bags((size,)))
        assert sorted(order.tolist()) == list(range(size))
        expected = [len(part) for part in np.array_split(np.arange(size), 4) if len(part)]
        assert list(pseudo.sizes) == expected
        assert parent == [0] * len(expected)


def test_the_division_is_drawn_anew_in_training_and_fixed_in_evaluation() -> None:
    aggregator, bags = made_model(dtfd).aggregator, made_bags((12,))
    drawn = {tuple(aggregator._divide(bags)[0].tolist()) for _ in range(5)}
    assert len(drawn) == 5
    order = aggregator.eval()._divide(bags)[0].tolist()
    assert order == [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]


def test_the_order_within_a_pseudo_bag_changes_nothing() -> None:
    aggregator, bags = made_model(dtfd).aggregator.eval(), made_bags((12,))
    order = torch.arange(12)
    order[[0, 4, 8]] = order[[8, 0, 4]]  # one pseudo-bag
    before, after = aggregator(bags), aggregator(bags.replace(bags.features[order]))
    torch.testing.assert_close(after.embedding, before.embedding, rtol=1e-12, atol=1e-14)
    order[[0, 1]] = order[[1, 0]]  # two of them
    other = aggregator(bags.replace(bags.features[order])).embedding
    assert (other - before.embedding).abs().max() > 1e-4


@pytest.mark.parametrize(("distillation", "millions"), [("AFS", 79.4), ("MaxMinS", 80.1)])
def test_size_of_the_published_model(distillation: str, millions: float) -> None:
    """The paper's table 1: millions of multiplications, of 120 instances in 5 pseudo-bags.

    As in the released code, AFS has a tier-1 classifier and computes class activations, too.
    """
    options = dtfd.Options(distillation=distillation, pseudo_bags=5)
    built = dtfd.build(1024, 2, options)
    instance, attention = 1024 * 512, 2 * 512 * 128 + 128
    distilled = {"AFS": 5, "MaxMinS": 10}[distillation]
    activations, heads = 120 * 512 * 2, (5 + 1) * 512 * 2
    total = 120 * (instance + attention) + distilled * attention + activations + heads
    assert round(total / 1e6, 1) == millions
    classifier = 0 if distillation == "AFS" else 512 * 2 + 2
    assert count(built) == instance + 2 * (attention + 2 * 128) + classifier


def test_tier_1_declares_its_loss() -> None:
    """Selecting needs the classifier's own weights: then its scores are the loss's embedding."""
    declared = made_model(dtfd).aggregator.auxiliaries["pseudo_bags"]
    assert (declared.dim, declared.classes, declared.scores) == (8, CLASSES, False)
    declared = made_model(dtfd, distillation="MaxS").aggregator.auxiliaries["pseudo_bags"]
    assert (declared.dim, declared.classes, declared.scores) == (CLASSES, CLASSES, True)
