"""What objectives collect batch by batch is what they make of all samples at once."""

import copy

import pytest
import torch
from made_trainings import Made

from wsi_ncmi import registry
from wsi_ncmi.losses.objective import Objective
from wsi_ncmi.training import evaluation
from wsi_ncmi.training.evaluation import Passes, embed, evaluated, fit_phase, score, start, validate

CASES = [(name, {}) for name in registry.names("objective")]
CASES += [("ncmi", {"class_mean_samples": "augmented"}), ("ncmi", {"centre": "none"})]


def same(found: Objective, expected: Objective) -> None:
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(found.state_dict()[name], value, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("largest", [0, 10**9])
@pytest.mark.parametrize(("name", "options"), CASES)
def test_batches_say_what_all_samples_say(
    name: str, options: dict, largest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether a phase's embeddings are kept for its later passes, or made anew."""
    monkeypatch.setattr(evaluation, "LARGEST_KEPT", largest)
    made = Made(name, options)
    main = made.objective.main
    twin = copy.deepcopy(main)
    start(made.network, made.objective, made.data)
    z, y = embed(made.network, made.data, "train")
    twin.fit("start", z, y)
    same(main, twin)
    for phase in ("classes", "temperature"):
        fit_phase(made.network, {"": main}, made.data, phase, "train")
        twin.fit(phase, z, y)
        same(main, twin)
    scores, targets = score(made.network, main, made.data, "test")
    torch.testing.assert_close(scores, twin.scores(z), rtol=1e-5, atol=1e-6)
    assert torch.equal(targets, y)


def test_no_more_than_a_batch_of_embeddings_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside what the objective sums: of two passes over the training part too."""
    monkeypatch.setattr(evaluation, "LARGEST_KEPT", 0)
    made = Made("ncmi")
    taken: list[int] = []
    collect = made.objective.main.collect

    def counted(phase: str, z: torch.Tensor, y: torch.Tensor) -> None:
        taken.append(len(z))
        collect(phase, z, y)

    monkeypatch.setattr(made.objective.main, "collect", counted)
    start(made.network, made.objective, made.data)
    assert taken == made.network.seen == [7] * 6 + [6] + [7] * 6 + [6]


def test_what_is_small_goes_through_the_network_once() -> None:
    made = Made("ncmi")
    start(made.network, made.objective, made.data)
    assert sum(made.network.seen) == len(made.data.y)


def test_an_objective_that_needs_nothing_costs_one_batch() -> None:
    made = Made("cross_entropy")
    start(made.network, made.objective, made.data)
    assert made.network.seen == [7]


def test_kept_batches_end_where_they_are_too_many() -> None:
    made = []

    def batches():
        for number in range(4):
            made.append(number)
            yield {"": (torch.zeros(1), torch.zeros(1, dtype=torch.int64))}  # 12 bytes

    few, many = Passes(batches, 48), Passes(batches, 47)
    assert [len(list(few)) for _ in range(3)] == [4, 4, 4]
    assert len(made) == 4
    assert [len(list(many)) for _ in range(2)] == [4, 4]
    assert len(made) == 12


def test_validation_gives_the_scores_of_the_whole_part() -> None:
    made = Made("ncmi")
    start(made.network, made.objective, made.data)
    twin = copy.deepcopy(made.objective.main)
    now, scores = validate(made.network, made.objective.main, made.data)
    z, y = embed(made.network, made.data, "val")
    twin.fit("temperature", z, y)
    torch.testing.assert_close(scores, twin.scores(z).float(), rtol=1e-5, atol=1e-6)
    expected = torch.nn.functional.cross_entropy(twin.scores(z).double(), y)
    assert now.loss == pytest.approx(expected.item(), rel=1e-6)


def test_evaluation_is_polled_after_every_batch() -> None:
    made, asked = Made(), []
    list(evaluated(made.network, made.data, "val", poll=lambda: asked.append(1)))
    assert len(asked) == 7
