"""CLAM-SB and CLAM-MB against their equations, computed by loops over bags and classes."""

from types import ModuleType

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

from wsi_ncmi.aggregators import clam, clam_mb, clam_sb
from wsi_ncmi.aggregators.bags import BagBatch

MODULES = pytest.mark.parametrize("module", [clam_sb, clam_mb], ids=["sb", "mb"])


def made(module: ModuleType, **options: object) -> Model:
    """Without dropout, with the published bag classifier."""
    return made_model(module, blockwise=module is clam_mb, dropout=0.0, **options)


def instance_loss(
    model: Model, hidden: list[Tensor], attention: list[Tensor], label: int, subtyping: bool
) -> Tensor:
    """The clustering loss of one bag under cross-entropy; weights are not differentiated."""
    total, size, most = 0, len(hidden), model.aggregator.options.instances
    for c in range(CLASSES):
        branch = min(c, len(attention[0]) - 1)
        order = sorted(range(size), key=lambda n: attention[n][branch].item())
        top = order[size - min(most, (size + 1) // 2) :]
        bottom = order[: min(most, size // 2)]
        if c == label:
            chosen = [(n, 1) for n in top] + [(n, 0) for n in bottom]
        elif subtyping:
            chosen = [(n, 0) for n in top]
        else:
            continue
        logits = torch.stack(
            [model.logits(f"instances_of_class_{c}", hidden[n]) for n, _ in chosen]
        )
        total = total + cross_entropy(logits, torch.tensor([y for _, y in chosen]))
    return total / CLASSES if subtyping else total


def bag_loss(model: Model, bag: Tensor, label: int) -> Tensor:
    """The published loss of a step of one bag."""
    state, options = dict(model.aggregator.named_parameters()), model.aggregator.options
    weight, bias = state["instance.0.weight"], state["instance.0.bias"]
    hidden = [torch.relu(weight @ x + bias) for x in bag]
    attention = softmax(gated_scores(state, "attention", hidden))  # [N] of [K]
    pooled = [weighted([a[k] for a in attention], hidden) for k in range(len(attention[0]))]
    head, constant = model.heads[""]
    each = range(CLASSES)
    logits = torch.stack([head[c] @ pooled[min(c, len(pooled) - 1)] + constant[c] for c in each])
    bag_part = cross_entropy(logits[None], torch.tensor([label]))
    instance_part = instance_loss(model, hidden, attention, label, options.subtyping)
    return 0.7 * bag_part + 0.3 * instance_part


@MODULES
@pytest.mark.parametrize("subtyping", [False, True])
@pytest.mark.parametrize(("size", "label"), [(30, 0), (12, 2), (3, 1), (2, 0), (1, 1)])
def test_a_step_of_one_bag(module: ModuleType, subtyping: bool, size: int, label: int) -> None:
    model, bags = made(module, subtyping=subtyping), made_bags((size,))
    target = torch.tensor([label])
    assert_step(model, lambda: bag_loss(model, bags.features, label), bags=bags, targets=target)


@MODULES
def test_a_step_of_several_bags_is_their_mean(module: ModuleType) -> None:
    model, bags = made(module, instances=2), made_bags((7, 4, 12, 5))

    def naive() -> Tensor:
        pairs = zip(bags.split(bags.features), TARGETS.tolist(), strict=True)
        return sum(bag_loss(model, bag, label) for bag, label in pairs) / len(bags)

    assert_step(model, naive, bags=bags)


def test_a_class_looks_at_its_own_attention() -> None:
    """Known mistake: the first branch, or that of the bag's class, for every classifier."""
    model, bags = made(clam_mb, instances=2, subtyping=True), made_bags((12,))
    output = model.aggregator(bags, torch.tensor([1]))
    for c in range(CLASSES):
        top = output.attention[:, c].topk(2).indices
        chosen = output.auxiliary[f"instances_of_class_{c}"].embedding
        assert torch.equal(chosen[:2], output.instance_embedding[top])
    tops = [set(output.attention[:, c].topk(2).indices.tolist()) for c in range(CLASSES)]
    assert len({frozenset(one) for one in tops}) > 1  # or the test would show nothing


@MODULES
def test_pseudo_targets_of_each_classifier(module: ModuleType) -> None:
    bags = made_bags((20, 16))
    targets = torch.tensor([0, 2])
    plain = made(module).aggregator(bags, targets).auxiliary
    assert plain["instances_of_class_0"].target.tolist() == 8 * [1] + 8 * [0]
    assert plain["instances_of_class_1"].target.tolist() == []
    assert plain["instances_of_class_2"].target.tolist() == 8 * [1] + 8 * [0]
    assert [loss.weight for loss in plain.values()] == [0.15, 0, 0.15]
    subtyping = made(module, subtyping=True).aggregator(bags, targets).auxiliary
    assert subtyping["instances_of_class_1"].target.tolist() == 16 * [0]
    assert subtyping["instances_of_class_0"].target.tolist() == 8 * [1] + 16 * [0]
    assert [loss.weight for loss in subtyping.values()] == pytest.approx(3 * [0.1])


@pytest.mark.parametrize(
    ("size", "most", "least"), [(1, 1, 0), (2, 1, 1), (3, 2, 1), (15, 8, 7), (16, 8, 8), (99, 8, 8)]
)
def test_no_instance_is_both(size: int, most: int, least: int) -> None:
    """Known mistake: k of a bag with fewer than k instances fails, with fewer than 2k it
    contradicts itself.
    """
    rng = torch.Generator().manual_seed(0)
    packed = BagBatch.of([torch.zeros(4, 1), torch.zeros(size, 1)])
    attention = torch.rand(4 + size, 2, generator=rng)
    assert clam.of_each(size, 8) == (most, least)
    high, low = clam.most_and_least(attention, packed, 8)[1].unbind(1)
    for branch in range(2):
        rows = sorted(range(4, 4 + size), key=lambda n: -attention[n, branch].item())
        assert high[:most, branch].tolist() == rows[:most]
        assert low[:least, branch].tolist() == rows[::-1][:least]


@MODULES
def test_without_the_instance_loss(module: ModuleType) -> None:
    model = made(module, instance_weight=0.0)
    output = model.aggregator(made_bags(), TARGETS)
    assert not model.aggregator.auxiliaries
    assert not output.auxiliary
    assert output.bag_weight == 1


@MODULES
def test_the_instance_loss_is_no_part_of_a_prediction(module: ModuleType) -> None:
    """Known mistake: it is computed in evaluation, and needs the label there."""
    model = made(module)
    output = model.aggregator.eval()(made_bags())
    assert not output.auxiliary
    assert output.bag_weight == 0.7


@pytest.mark.parametrize(("module", "branches"), [(clam_sb, 1), (clam_mb, 2)], ids=["sb", "mb"])
def test_size_of_the_published_model(module: ModuleType, branches: int) -> None:
    """The size "small" of the released code, 1024 features and two classes, less the bias of the
    attention's last layer, which softmax does not see.
    """
    layers = 1024 * 512 + 512 + 2 * (512 * 256 + 256) + branches * (256 + 1)
    classifiers = 2 * (512 + 1) + 2 * (512 * 2 + 2)
    assert (branches == 1) == (layers + classifiers == 790_791)
    built = module.build(1024, 2, module.Options())
    heads = sum(one.dim * one.classes + one.classes for one in built.auxiliaries.values())
    width = built.embedding_dim // branches
    assert count(built) + branches + heads + 2 * (width + 1) == layers + classifiers
