"""The aggregators' equations, computed another way."""

import torch

from wsi_ncmi.aggregators import abmil, mean


def test_gated_attention_by_its_equation() -> None:
    torch.manual_seed(0)
    aggregator = abmil.build(6, abmil.Options(hidden_dim=5, attention_dim=4)).eval()
    bag = torch.randn(7, 6)
    output = aggregator(bag[None], torch.ones(1, 7, dtype=torch.bool))
    state = aggregator.state_dict()
    hidden = [torch.relu(state["instance.0.weight"] @ x + state["instance.0.bias"]) for x in bag]
    scores = []
    for h in hidden:
        tanh = torch.tanh(state["tanh.weight"] @ h + state["tanh.bias"])
        gate = torch.sigmoid(state["gate.weight"] @ h + state["gate.bias"])
        scores.append((state["score.weight"][0] * tanh * gate).sum())
    weights = torch.exp(torch.stack(scores))
    weights = weights / weights.sum()
    torch.testing.assert_close(output.attention[0, :, 0], weights)
    embedding = sum(w * h for w, h in zip(weights, hidden, strict=True))
    torch.testing.assert_close(output.embedding[0], embedding)
    torch.testing.assert_close(output.instance_embedding[0], torch.stack(hidden))
    assert aggregator.has_attention


def test_mean_does_not_see_copies_of_a_bag() -> None:
    torch.manual_seed(0)
    aggregator = mean.build(6, mean.Options()).eval()
    bag = torch.randn(1, 5, 6)
    once = aggregator(bag, torch.ones(1, 5, dtype=torch.bool)).embedding
    twice = aggregator(bag.repeat(1, 2, 1), torch.ones(1, 10, dtype=torch.bool)).embedding
    alone = aggregator(bag.mean(1, keepdim=True), torch.ones(1, 1, dtype=torch.bool)).embedding
    torch.testing.assert_close(twice, once)
    torch.testing.assert_close(alone, once)
    assert not aggregator.has_attention


def test_dropout_acts_in_training_only() -> None:
    torch.manual_seed(0)
    mask = torch.ones(1, 5, dtype=torch.bool)
    bag = torch.randn(1, 5, 6)
    for module in (abmil, mean):
        aggregator = module.build(6, module.Options(dropout=0.5))
        first, second = (aggregator.train()(bag, mask).embedding for _ in range(2))
        assert not torch.equal(first, second)
        first, second = (aggregator.eval()(bag, mask).embedding for _ in range(2))
        assert torch.equal(first, second)
