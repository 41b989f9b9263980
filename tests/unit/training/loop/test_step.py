"""What a step does: accumulation, mixing, running means of weights, half precision."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from made_trainings import Made, Pictures, Small

from wsi_ncmi import registry
from wsi_ncmi.config import ImageTraining
from wsi_ncmi.errors import UserError
from wsi_ncmi.training.learner import Learner, for_images, frozen_statistics
from wsi_ncmi.training.mixing import mixed_batch

MIXED = {"cross_entropy", "focal", "logit_adjusted", "poly1", "squentropy"}


def learner(made: Made, steps: int = 12) -> Learner:
    found = Learner(made.network, made.objective, for_images(made.settings), steps)
    found.train()
    return found


def same(found: Made, expected: Made, **tolerance: float) -> None:
    for name, tensor in expected.states.items():
        torch.testing.assert_close(found.states[name], tensor, msg=lambda t, n=name: f"{n}: {t}",
                                   **({"rtol": 1e-4, "atol": 1e-5} | tolerance))  # fmt: skip


@pytest.mark.parametrize("name", registry.names("objective"))
def test_micro_batches_train_as_the_whole_batch(name: str) -> None:
    """Objectives that compare the samples of a step, too."""
    whole, parts = (Made(name, accumulation=n, clip_norm=0.5) for n in (1, 5))
    whole.fit()
    parts.fit()
    same(parts, whole)
    assert max(parts.network.seen) < 12 == max(whole.network.seen)


def test_batch_norms_remember_a_micro_batch_once() -> None:
    made = Made(norm=True, accumulation=3)
    (x, y), *_ = made.data.training(0)
    learner(made).step(x, y, 0)
    norm = made.network.norm
    assert int(norm.num_batches_tracked) == 3
    with frozen_statistics(made.network):
        assert not norm.track_running_stats
    assert norm.track_running_stats


def test_dropout_is_the_same_in_both_passes_of_a_micro_batch() -> None:
    """Else an embedding's gradient would be of another network than the one that made it."""
    made = Made(dropout=0.5, accumulation=2)
    (x, y), *_ = made.data.training(0)
    outputs: list[torch.Tensor] = []
    made.network.register_forward_hook(lambda _m, _i, out: outputs.append(out.embedding.detach()))
    learner(made).step(x, y, 7)
    assert torch.equal(outputs[0], outputs[2])
    assert torch.equal(outputs[1], outputs[3])
    assert not torch.equal(outputs[0] == 0, outputs[1] == 0)


# --- mixing -------------------------------------------------------------------------------------


def settings(**given: Any) -> ImageTraining:
    return ImageTraining.model_validate(given)


def test_mixup_is_a_mean_of_two_images_and_of_their_losses() -> None:
    made = Made(mixup=0.8, dropout=0.0)
    (x, y), *_ = made.data.training(0)
    images, other = mixed_batch(x, y, for_images(made.settings), seed=3)
    share = other.share
    assert 0.5 <= share < 1
    expected = share * x.float() + (1 - share) * x.roll(1, 0).float()
    torch.testing.assert_close(images, expected)
    assert torch.equal(other.target, y.roll(1, 0))
    head = made.objective.main.head
    with torch.no_grad():
        logits = head(made.network(images).embedding)
    soft = share * F.one_hot(y, 3) + (1 - share) * F.one_hot(other.target, 3)
    loss, parts = learner(made).step(x, y, 3)
    assert loss.item() == pytest.approx(F.cross_entropy(logits, soft.float()).item(), rel=1e-5)
    assert all(value.item() == pytest.approx(loss.item(), rel=1e-5) for value in parts.values())


def test_cutmix_counts_the_pixels() -> None:
    x = torch.arange(6, dtype=torch.uint8)[:, None, None, None].expand(6, 3, 20, 30).contiguous()
    y = torch.arange(6) % 3
    for seed in range(20):
        images, other = mixed_batch(x, y, settings(cutmix=1.0), seed)
        own = images[2] == 2
        assert ((images[2] == 2) | (images[2] == 1)).all()
        assert own.float().mean().item() == pytest.approx(other.share)
        rows = (~own[0]).any(1).nonzero().flatten()
        columns = (~own[0]).any(0).nonzero().flatten()
        assert (~own[0]).sum() == len(rows) * len(columns)  # a rectangle


def test_shares_follow_their_distribution_and_the_seed() -> None:
    x, y = torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.tensor([0, 1])
    shares = [mixed_batch(x, y, settings(mixup=0.3), seed)[1].share for seed in range(2000)]
    rng = np.random.default_rng(1).beta(0.3, 0.3, 50_000)
    assert np.mean(shares) == pytest.approx(np.maximum(rng, 1 - rng).mean(), abs=0.01)
    assert mixed_batch(x, y, settings(mixup=0.3), 5)[1].share == shares[5]


def test_with_both_half_of_the_batches_have_either() -> None:
    x = torch.tensor([0, 200], dtype=torch.uint8)[:, None, None, None].expand(2, 3, 8, 8)
    found = [
        mixed_batch(x.contiguous(), torch.tensor([0, 1]), settings(mixup=1.0, cutmix=1.0), seed)[0]
        for seed in range(200)
    ]
    cut = sum(bool(((images == 0) | (images == 200)).all()) for images in found)
    assert 70 < cut < 130


@pytest.mark.parametrize("name", registry.names("objective"))
def test_images_are_mixed_for_cross_entropys_family_alone(name: str) -> None:
    made = Made(name, mixup=0.2, epochs=1)
    if name in MIXED:
        made.fit()
        return
    with pytest.raises(UserError, match=r"run: \w+ has no loss of an image of two classes.*mixup"):
        made.fit()
    assert made.network.seen == []


# --- running mean of the weights ----------------------------------------------------------------


def test_the_mean_of_the_weights_is_scored() -> None:
    decay, made = 0.8, Made(ema_decay=0.8, epochs=2, norm=True)
    seen: list[torch.Tensor] = []
    step = Learner.step

    def recorded(self: Learner, *given: Any) -> Any:
        found = step(self, *given)
        seen.append(self.network.layer.weight.detach().clone())
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Learner, "step", recorded)
        history = made.fit()
    mean = seen[0]
    for number, value in enumerate(seen[1:], 1):
        d = min(decay, (1 + number) / (10 + number))
        mean = d * mean + (1 - d) * value
    torch.testing.assert_close(made.network.layer.weight.detach(), mean, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(mean, seen[-1], rtol=1e-3)
    head = made.objective.main.head.weight
    assert not torch.equal(head, Made(epochs=2, norm=True).objective.main.head.weight)
    assert history.epochs == 2


def test_the_mean_is_validated() -> None:
    """With a decay of almost nothing it is the weights themselves."""
    plain, mean, slow = Made(), Made(ema_decay=1e-9), Made(ema_decay=0.9)
    histories = [one.fit() for one in (plain, mean, slow)]
    same(mean, plain)
    losses = [[r["loss"] for r in h.curves if r["part"] == "val"] for h in histories]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert losses[2] != pytest.approx(losses[0], rel=1e-2)


# --- precision ----------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_trains_alike(precision: str) -> None:
    found, expected = Made(precision=precision), Made()
    history, plain = found.fit(), expected.fit()
    losses = [row["loss"] for row in history.curves if row["part"] == "train"]
    expected_losses = [row["loss"] for row in plain.curves if row["part"] == "train"]
    assert losses == pytest.approx(expected_losses, rel=0.03)
    assert found.network.precision == precision


@pytest.mark.parametrize("name", ["cross_entropy", "ncmi"])
def test_fp16_scales_gradients_and_leaves_out_a_step_that_overflows(name: str) -> None:
    made = Made(name, precision="fp16")
    made.network.precision = "fp16"
    found = learner(made)
    scaler = found.optimisers.scaler
    (x, y), *_ = made.data.training(0)
    found.step(x, y, 0)
    scale = scaler.get_scale()
    assert scale > 1000
    scaler.update(1e38)
    before = made.network.layer.weight.detach().clone()
    found.step(x, y, 1)
    assert torch.equal(made.network.layer.weight, before)
    assert scaler.get_scale() < 1e38
    assert found.optimisers.largest_norm.isfinite()


def test_small_is_what_the_tests_take_it_for() -> None:
    """Training and eval mode differ by its dropout, and the classes can be learnt."""
    made = Made(epochs=12, learning_rate=0.05, data=Pictures())
    history = made.fit()
    assert history.curves[-1]["macro_f1"] > 0.9
    assert isinstance(made.network, Small)


@pytest.mark.parametrize("wanted", [True, False])
def test_deterministic_operations_are_asked_for_while_it_trains(wanted: bool) -> None:
    made, seen = Made(deterministic=wanted, epochs=1), []
    made.network.register_forward_hook(
        lambda *_: seen.append(
            (torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark)
        )
    )
    made.fit()
    assert set(seen) == {(wanted, not wanted)}
    assert not torch.are_deterministic_algorithms_enabled()
    assert not torch.backends.cudnn.benchmark
