"""DSMIL against its equations, computed by loops over instances and classes."""

import pytest
import torch
from made_published import (
    CLASSES,
    DIM,
    TARGETS,
    Model,
    assert_step,
    count,
    cross_entropy,
    made_bags,
    made_model,
    softmax,
    weighted,
)
from torch import Tensor, nn

from wsi_ncmi.aggregators import dsmil
from wsi_ncmi.aggregators.bags import BagBatch


def query(state: dict[str, Tensor], x: Tensor) -> Tensor:
    found = state["query.0.weight"] @ x + state["query.0.bias"]
    if "query.2.weight" in state:
        found = state["query.2.weight"] @ torch.relu(found) + state["query.2.bias"]
        found = torch.tanh(found)
    return found


def value(state: dict[str, Tensor], x: Tensor) -> Tensor:
    if "value.1.weight" not in state:
        return x
    return state["value.1.weight"] @ x + state["value.1.bias"]


def naive(model: Model) -> Tensor:
    state, bags = dict(model.aggregator.named_parameters()), made_bags()
    of_bags, of_critical = [], []
    for bag in bags.split(bags.features):
        scores = [state["score.weight"] @ x + state["score.bias"] for x in bag]
        blocks, largest = [], []
        for c in range(CLASSES):
            m = max(range(len(bag)), key=lambda n: scores[n][c].item())
            critical = query(state, bag[m])
            products = [query(state, x) @ critical / len(critical) ** 0.5 for x in bag]
            blocks.append(weighted(softmax(products), [value(state, x) for x in bag]))
            largest.append(scores[m][c])
        of_bags.append(model.logits("", torch.cat(blocks)))
        of_critical.append(torch.stack(largest))
    bag_part = cross_entropy(torch.stack(of_bags), TARGETS)
    return 0.5 * bag_part + 0.5 * cross_entropy(torch.stack(of_critical), TARGETS)


@pytest.mark.parametrize("kind", ["mlp", "linear"])
@pytest.mark.parametrize("pooled", ["identity", "linear"])
def test_loss_and_gradients(kind: str, pooled: str) -> None:
    model = made_model(dsmil, query=kind, value=pooled, query_dim=5)
    assert_step(model, lambda: naive(model))


def test_the_authors_convolution_is_a_linear_head_on_all_blocks() -> None:
    """A kernel as long as an embedding, C channels in and out; no head of each block alone."""
    model = made_model(dsmil)
    embedding = model.aggregator(made_bags()).embedding
    weight, bias = model.heads[""]
    convolution = nn.Conv1d(CLASSES, CLASSES, kernel_size=DIM).double()
    with torch.no_grad():
        convolution.weight.copy_(weight.reshape(CLASSES, CLASSES, DIM))
        convolution.bias.copy_(bias)
    expected = convolution(embedding.reshape(-1, CLASSES, DIM)).squeeze(2)
    torch.testing.assert_close(model.logits("", embedding), expected)


def test_each_class_has_its_own_critical_instance() -> None:
    """Known mistake: instances sorted by one class's score are taken for the bag by the next."""
    first = torch.tensor([[0.0, 5, 0], [1, 0, 0], [9, 1, 0], [3, 4, 0]])
    second = torch.tensor([[2.0, 1, 8], [1, 7, 9]])
    bags = BagBatch.of([torch.zeros(4, 1), torch.zeros(2, 1)])
    found = dsmil.critical_instances(torch.cat([first, second]), bags)
    assert found.tolist() == [[2, 0, 0], [4, 5, 5]]


def test_the_critical_instance_attends_to_itself_most_where_queries_are_equally_long() -> None:
    model, bags = made_model(dsmil, query="linear"), made_bags((9,))
    with torch.no_grad():
        model.aggregator.query[0].bias.zero_()
    lengths = bags.features @ model.aggregator.query[0].weight.T
    bags = bags.replace(bags.features / lengths.norm(dim=1, keepdim=True))
    output = model.aggregator(bags)
    critical = model.aggregator.score(bags.features).argmax(0)
    assert torch.equal(output.attention.argmax(0), critical)


def test_critical_instances_are_scored_by_the_instance_classifier() -> None:
    model, bags = made_model(dsmil), made_bags()
    output = model.aggregator(bags, TARGETS)
    scores = model.aggregator.score(bags.features)
    loss = output.auxiliary["critical_instances"]
    expected = torch.stack([bag.amax(0) for bag in bags.split(scores)])
    assert torch.equal(loss.embedding, expected)
    assert torch.equal(loss.target, TARGETS)
    assert (output.bag_weight, loss.weight) == (0.5, 0.5)
    assert model.aggregator.auxiliaries["critical_instances"].scores


def test_size_of_the_published_model() -> None:
    """Layers of the released code for 1024 features and two classes."""
    layers = 1024 * 2 + 2 + 1024 * 128 + 128 + 128 * 128 + 128
    built = dsmil.build(1024, 2, dsmil.Options())
    assert count(built) == layers
    assert built.embedding_dim * 2 + 2 == nn.Conv1d(2, 2, 1024).weight.numel() + 2
    linear = dsmil.build(1024, 2, dsmil.Options(query="linear", value="linear"))
    assert count(linear) == 1024 * 2 + 2 + 1024 * 128 + 128 + 1024 * 1024 + 1024
