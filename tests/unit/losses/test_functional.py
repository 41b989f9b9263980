import math

import pytest
import torch

from wsi_ncmi.losses import functional


def test_kl_of_two_known_distributions() -> None:
    p, q = torch.tensor([0.75, 0.25]), torch.tensor([0.5, 0.5])
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert functional.kl(p.log(), q.log()).item() == pytest.approx(expected, rel=1e-6)
    reverse = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    assert functional.kl(q.log(), p.log()).item() == pytest.approx(reverse, rel=1e-6)


def test_kl_is_zero_only_at_equality_and_never_negative() -> None:
    rng = torch.Generator().manual_seed(0)
    log_p = functional.centred(torch.randn(50, 16, generator=rng))
    assert torch.count_nonzero(functional.kl(log_p, log_p)) == 0
    close = functional.centred(log_p + 1e-4 * torch.randn(50, 16, generator=rng))
    assert (functional.kl(log_p, close) > 0).all()


def test_kl_broadcasts_and_takes_normalised_or_centred_logs() -> None:
    rng = torch.Generator().manual_seed(0)
    log_p = functional.centred(torch.randn(3, 1, 8, generator=rng))
    log_q = functional.centred(torch.randn(5, 8, generator=rng))
    pairs = functional.kl(log_p, log_q)
    assert pairs.shape == (3, 5)
    normalised = functional.kl(log_p - math.log(8), log_q - math.log(8))
    torch.testing.assert_close(normalised, pairs, rtol=1e-5, atol=1e-6)


def test_centred_logs_have_mean_one() -> None:
    logs = functional.centred(torch.tensor([[300.0, 299.0, -50.0], [0.0, 0.0, 0.0]]))
    torch.testing.assert_close(logs.exp().mean(1), torch.ones(2))
    assert torch.equal(logs[1], torch.zeros(3))


def test_own_class_picks_the_row_of_the_target() -> None:
    log_q = functional.centred(torch.eye(3, 4))
    log_p = functional.centred(torch.arange(8.0).reshape(2, 4) / 8)
    found = functional.kl_own_class(log_p, log_q, torch.tensor([2, 0]))
    assert found[0] == functional.kl(log_p[0], log_q[2])
    assert found[1] == functional.kl(log_p[1], log_q[0])


def test_separation_of_three_classes_by_hand() -> None:
    log_q = functional.centred(2 * torch.eye(3, 4, dtype=torch.float64))
    log_p = functional.centred(torch.tensor([[0.1, -0.3, 0.7, 0.2]], dtype=torch.float64))
    to_p = [functional.kl(row, log_p[0]).item() for row in log_q]
    found = functional.separation(log_p, log_q, torch.tensor([1]))
    assert found.item() == pytest.approx((to_p[0] + to_p[2]) / 3, rel=1e-12)
    weights = torch.tensor([0.2, 0.7, 0.1], dtype=torch.float64)
    found = functional.separation(log_p, log_q, torch.tensor([1]), weights)
    assert found.item() == pytest.approx(0.2 * to_p[0] + 0.1 * to_p[2], rel=1e-12)


def test_all_classes_by_product_agree_with_the_pairs() -> None:
    rng = torch.Generator().manual_seed(0)
    log_p = functional.centred(torch.randn(6, 16, generator=rng))
    log_q = functional.centred(torch.randn(4, 16, generator=rng))
    expected = functional.kl(log_p[:, None], log_q[None])
    torch.testing.assert_close(functional.kl_all_classes(log_p, log_q), expected, atol=1e-5, rtol=0)


def test_class_means_and_absent_classes() -> None:
    log_p = functional.centred(torch.randn(5, 6, generator=torch.Generator().manual_seed(0)))
    target = torch.tensor([0, 2, 2, 0, 2])
    sums, counts = functional.class_sums(log_p, target, 4)
    assert counts.tolist() == [2, 0, 3, 0]
    otherwise = functional.centred(torch.eye(4, 6))
    means = functional.class_means(sums, counts, otherwise)
    p = torch.softmax(log_p, 1)
    torch.testing.assert_close(torch.softmax(means, 1)[2], p[[1, 2, 4]].mean(0))
    torch.testing.assert_close(torch.softmax(means, 1)[0], p[[0, 3]].mean(0))
    assert torch.equal(means[[1, 3]], otherwise[[1, 3]])


def test_the_floor_of_log_ratio() -> None:
    logs = functional.log_ratio(torch.tensor([-1.0, -1.0000001, 0.0, 3.0]))
    assert torch.isfinite(logs).all()
    assert logs[2] == 0
    assert logs[3].item() == pytest.approx(math.log(4), rel=1e-6)
