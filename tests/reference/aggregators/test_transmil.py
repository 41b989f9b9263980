"""TransMIL against its equations, with all rows, zero rows and matrices written out."""

import math
from collections.abc import Mapping

import pytest
import torch
from made_published import (
    SIZES,
    TARGETS,
    Model,
    assert_step,
    count,
    cross_entropy,
    made_bags,
    made_model,
)
from torch import Tensor, nn

from wsi_ncmi.aggregators import transmil
from wsi_ncmi.aggregators.bags import BagBatch
from wsi_ncmi.aggregators.nystrom import NystromAttention

State = Mapping[str, Tensor]


def made(**options: int | float) -> Model:
    """With projections that make an attention far from uniform."""
    small = {"heads": 2, "landmarks": 4, "residual_kernel": 5, "dropout": 0.0}
    model = made_model(transmil, **{**small, **options})
    with torch.no_grad():
        for layer in (model.aggregator.layer1, model.aggregator.layer2):
            layer.projection.weight.mul_(3)
    return model


def layer_norm(state: State, name: str, row: Tensor) -> Tensor:
    centred = row - row.mean()
    scaled = centred / (centred.square().mean() + 1e-5).sqrt()
    return scaled * state[f"{name}.weight"] + state[f"{name}.bias"]


def pseudo_inverse(matrix: Tensor, iterations: int) -> Tensor:
    """Of one head; ‖A‖₁ ‖A‖_∞ is the largest column sum times the largest row sum."""
    identity = torch.eye(len(matrix), dtype=matrix.dtype)
    z = matrix.T / (matrix.sum(0).max() * matrix.sum(1).max())
    for _ in range(iterations):
        az = matrix @ z
        z = z @ (13 * identity - az @ (15 * identity - az @ (7 * identity - az))) / 4
    return z


def nystrom(
    state: State, name: str, rows: Tensor, heads: int, landmarks: int, iterations: int = 6
) -> tuple[Tensor, Tensor]:
    """Outputs [n, D] and the approximated attention [H, n, n], with zero rows in front."""
    segment = math.ceil(len(rows) / landmarks)
    zero_rows = segment * landmarks - len(rows)
    padded = torch.cat([rows.new_zeros(zero_rows, rows.shape[1]), rows])
    width = rows.shape[1] // heads
    query, key, value = (padded @ state[f"{name}.projection.weight"].T).split(rows.shape[1], 1)
    outputs, attentions = [], []
    for head in range(heads):
        q, k, v = (part[:, head * width : (head + 1) * width] for part in (query, key, value))
        q = q / math.sqrt(width)
        q_landmarks = torch.stack([part.mean(0) for part in q.split(segment)])
        k_landmarks = torch.stack([part.mean(0) for part in k.split(segment)])
        assert len(q_landmarks) == landmarks
        z = pseudo_inverse((q_landmarks @ k_landmarks.T).softmax(1), iterations)
        attention = (q @ k_landmarks.T).softmax(1) @ z @ (q_landmarks @ k.T).softmax(1)
        kernel = state[f"{name}.residual.weight"].flatten(1)[head]
        convolved = []
        for n in range(len(v)):
            taps = enumerate(kernel, start=n - len(kernel) // 2)
            convolved.append(sum(tap * v[at] for at, tap in taps if 0 <= at < len(v)))
        outputs.append(attention @ v + torch.stack(convolved))
        attentions.append(attention[zero_rows:, zero_rows:])
    out = torch.cat(outputs, 1)[zero_rows:]
    return out @ state[f"{name}.out.weight"].T + state[f"{name}.out.bias"], torch.stack(attentions)


def ppeg(state: State, rows: Tensor, side: int) -> Tensor:
    """Three depthwise convolutions of the map and the map, place by place."""
    encoded = []
    for row in range(side):
        for column in range(side):
            total = rows[row * side + column]
            for kernel in (7, 5, 3):
                weight = state[f"position.conv{kernel}.weight"]
                total = total + state[f"position.conv{kernel}.bias"]
                for i in range(kernel):
                    for j in range(kernel):
                        y, x = row + i - kernel // 2, column + j - kernel // 2
                        if 0 <= y < side and 0 <= x < side:
                            total = total + weight[:, 0, i, j] * rows[y * side + x]
            encoded.append(total)
    return torch.stack(encoded)


def embed(model: Model, bag: Tensor, heads: int, landmarks: int) -> tuple[Tensor, Tensor]:
    """Embedding [m] and F Z B of the class token in layer 2, [H, M]."""
    state = dict(model.aggregator.named_parameters())
    hidden = [torch.relu(state["instance.0.weight"] @ x + state["instance.0.bias"]) for x in bag]
    side = next(side for side in range(1, 100) if side**2 >= len(hidden))
    tokens = [state["class_token"][0], *hidden, *hidden[: side**2 - len(hidden)]]

    def attended(tokens: list[Tensor], layer: int) -> tuple[list[Tensor], Tensor]:
        rows = torch.stack([layer_norm(state, f"norm{layer}", token) for token in tokens])
        updates, attention = nystrom(state, f"layer{layer}", rows, heads, landmarks)
        return [t + update for t, update in zip(tokens, updates, strict=True)], attention

    tokens, _ = attended(tokens, 1)
    tokens = [tokens[0], *ppeg(state, torch.stack(tokens[1:]), side)]
    tokens, attention = attended(tokens, 2)
    return layer_norm(state, "norm", tokens[0]), attention[:, 0, 1:]


@pytest.mark.parametrize("landmarks", [1, 2, 4, 7, 32])
def test_loss_and_gradients(landmarks: int) -> None:
    """Bags have 10, 2, 17 and 5 tokens: with zero landmarks, with segments that start in zero rows,
    and with neither."""
    model = made(landmarks=landmarks)

    def naive() -> Tensor:
        bags = made_bags()
        embedded = [embed(model, bag, 2, landmarks)[0] for bag in bags.split(bags.features)]
        return cross_entropy(model.logits("", torch.stack(embedded)), TARGETS)

    assert_step(model, naive)


@pytest.mark.parametrize("landmarks", [4, 32])
def test_attention_is_the_class_tokens(landmarks: int) -> None:
    """Its row comes after the zero rows (TransMIL-visualisation#8 took another), and a repeated
    instance has two weights (a heat map of N instances cannot have M)."""
    model, bags = made(landmarks=landmarks), made_bags()
    found = bags.split(model.aggregator(bags).attention)
    for bag, weights in zip(bags.split(bags.features), found, strict=True):
        expected = torch.zeros(len(bag), 2, dtype=torch.float64)
        for place, weight in enumerate(embed(model, bag, 2, landmarks)[1].T):
            expected[place % len(bag)] += weight.detach()
        expected = expected.clamp(min=0)
        torch.testing.assert_close(weights, expected / expected.sum(0), rtol=1e-9, atol=1e-12)


def test_negative_weights_are_zero() -> None:
    weights = torch.tensor([[0.5, -0.5, 0.25, 0.25], [-1.0, -1.0, -1.0, -1.0]])
    found = transmil.shares(weights, 3)
    torch.testing.assert_close(found[:, 0], torch.tensor([0.75, 0.0, 0.25]))
    torch.testing.assert_close(found[:, 1], torch.full((3,), 1 / 3))


def test_with_a_landmark_for_every_token_attention_is_exact() -> None:
    """A A⁺ A = A, once the iteration has converged."""
    torch.manual_seed(0)
    layer = NystromAttention(8, 2, 6, 40, 1, 0.0).double()
    with torch.no_grad():
        layer.projection.weight.mul_(3)
    tokens = torch.randn(6, 8, dtype=torch.float64)
    query, key, value = layer.projection(tokens).unflatten(1, (3, 2, 4)).permute(1, 2, 0, 3)
    attention = (query @ key.mT / 2).softmax(-1)
    weight = layer.residual.weight[:, :, 0]  # one tap
    attended = (attention @ value + weight * value).transpose(0, 1).flatten(1)
    torch.testing.assert_close(layer(tokens), layer.out(attended), rtol=1e-6, atol=1e-8)
    first, weights = layer.first(tokens)
    torch.testing.assert_close(first, layer.out(attended)[0], rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(weights, attention[:, 0], rtol=1e-6, atol=1e-8)


def test_no_other_bag_and_no_other_head_starts_the_iteration() -> None:
    """The common implementation divides by the largest column sum of a batch's bags and heads."""
    model = made(pinv_iterations=1)  # as far as possible from where all starts end
    calm, sharp = made_bags((9,)).features, 30 * made_bags((12,)).features
    alone = model.aggregator(BagBatch.of([calm])).embedding[0]
    together = model.aggregator(BagBatch.of([calm, sharp])).embedding[0]
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-12)
    layer, tokens = model.aggregator.layer1, calm.repeat(1, 2)[:, :8]
    with torch.no_grad():
        layer.out.weight[:, 4:] = 0  # all that the second head gives
        before = layer(tokens)
        layer.projection.weight[12:16].mul_(30)  # its keys
        torch.testing.assert_close(layer(tokens), before, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("size", "side"), [(1, 1), (2, 2), (4, 2), (5, 3), (9, 3), (10, 4)])
def test_the_first_instances_are_repeated_to_a_square(size: int, side: int) -> None:
    """With repeated instances given, the bag is square and nothing else happens to it."""
    model, bag = made(), made_bags((size,)).features
    squared = torch.cat([bag, bag[: side**2 - size]])
    found = model.aggregator(BagBatch.of([bag])).embedding
    expected = model.aggregator(BagBatch.of([squared])).embedding
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_the_place_of_an_instance_counts() -> None:
    model, bag = made(), made_bags((9,)).features
    moved = bag[[8, *range(8)]]
    found = [model.aggregator(BagBatch.of([one])).embedding for one in (bag, moved)]
    assert (found[0] - found[1]).abs().max() > 1e-3


def test_size_of_the_released_model() -> None:
    """Its layers, by torch's own of 1024-d features, without the classifier: 2.67 million."""
    dim = 512
    layers: list[nn.Module] = [nn.Linear(1024, dim), *(nn.LayerNorm(dim) for _ in range(3))]
    for _ in range(2):
        layers += [nn.Linear(dim, 3 * dim, bias=False), nn.Linear(dim, dim)]
        layers += [nn.Conv2d(8, 8, (33, 1), groups=8, bias=False)]
    layers += [nn.Conv2d(dim, dim, kernel, groups=dim) for kernel in (7, 5, 3)]
    released = dim + sum(p.numel() for layer in layers for p in layer.parameters())
    found = count(transmil.build(1024, 2, transmil.Options()))
    assert found == released == 2_671_120


def test_instances_returned_are_the_bags_own() -> None:
    found = made().aggregator(made_bags()).instance_embedding
    assert found.shape == (sum(SIZES), 8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_dim": 500}, "hidden_dim must be a multiple of heads, found 500 and 8"),
        ({"residual_kernel": 32}, "residual_kernel must be odd, found 32"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        transmil.Options(**options)
