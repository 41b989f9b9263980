"""benchmarks/mil_engine.py: the ways do the same work, and the figures are of what they say."""

import argparse
import json
import mmap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from wsi_ncmi import registry
from wsi_ncmi.aggregators.bags import BagBatch

ABMIL = {"hidden_dim": 16, "attention_dim": 4}


@pytest.fixture
def make_work(benchmark: Callable[[str], Any], tmp_path: Path) -> Callable[..., Any]:
    """Some work on ten bags, packed once; `changes` are of its fields."""
    bags = benchmark("mil_bags")
    case = bags.Case("tiny", (3, 9, 1, 4, 7, 2, 5, 30, 6, 2), 8, 4, 2)
    bags.write(case, tmp_path / "bags")

    def make(dropout: float = 0.25, **changes: Any) -> Any:
        own = replace(case, options={"abmil": {**ABMIL, "dropout": dropout}})
        given = {"aggregator": "abmil", "arms": 2, "streams": 2, "steps": 3}
        return bags.Work(own, tmp_path / "bags", **{**given, **changes})

    return make


def weights(way: Any) -> list[torch.Tensor]:
    """Each model's aggregator as one vector."""
    return [torch.cat([state[name].flatten() for name in sorted(state)]) for state in way.states()]


@pytest.mark.parametrize("objective", ["cross_entropy", "ncmi"])
def test_the_engine_and_the_plain_loop_train_to_the_same_weights(
    benchmark: Callable[[str], Any], make_work: Callable[..., Any], objective: str
) -> None:
    ways, work = benchmark("mil_ways"), make_work(objective=objective)
    engine, plain = ways.Engine(work, 4), ways.Plain(work, 4)
    before = weights(plain)
    for way in (engine, plain):
        way()
        way()
    assert (engine.trained, plain.trained) == (4, 2)
    for start, ours, theirs in zip(before, weights(engine), weights(plain), strict=False):
        assert (ours - theirs).norm() < 1e-2 * (theirs - start).norm()


def test_padding_changes_the_time_and_not_the_weights(
    benchmark: Callable[[str], Any], make_work: Callable[..., Any]
) -> None:
    rivals, work = benchmark("mil_rivals"), make_work(dropout=0.0)
    padded, plain = rivals.Padded(work, 4), rivals.Plain(work, 4)
    before = weights(plain)
    padded()
    plain()
    for start, a, b in zip(before, weights(padded), weights(plain), strict=True):
        assert (a - b).norm() < 1e-2 * (b - start).norm()


def test_vmap_as_it_comes_trains_every_model(
    benchmark: Callable[[str], Any], make_work: Callable[..., Any]
) -> None:
    way = benchmark("mil_rivals").Mapped(make_work(), 4)
    before = [{k: v.clone() for k, v in p.items()} for p, _ in way.stacks]
    way()
    for old, (new, _) in zip(before, way.stacks, strict=True):
        name = next(name for name in old if "instance" in name)
        assert len(new[name]) == 2
        moved = (new[name] - old[name]).flatten(1).norm(dim=1)
        assert (moved > 0).all()


@pytest.mark.slow
def test_processes_share_the_models(
    benchmark: Callable[[str], Any], make_work: Callable[..., Any]
) -> None:
    for name in ("Processes", "EngineProcesses"):
        way = getattr(benchmark("mil_processes"), name)(make_work(), 100)
        before = way.cpu_elsewhere
        way()
        assert way.trained == min(4, 2 * len(way.processes))
        assert way.cpu_elsewhere > before > 0
        way.close()
        assert all(process.exitcode == 0 for process in way.processes)


def test_a_process_has_whole_streams(
    benchmark: Callable[[str], Any], make_work: Callable[..., Any]
) -> None:
    shares = benchmark("mil_processes").shares_of_streams
    three = make_work(arms=2, streams=3)
    assert shares(three, 6, cores=2) == [[0, 1, 4, 5], [2, 3]]
    assert shares(three, 6, cores=8) == [[0, 1], [2, 3], [4, 5]]
    assert shares(three, 5, cores=2) == [[0, 1], [2, 3]]  # as many streams in each
    assert shares(make_work(arms=2, streams=1), 2, cores=2) == [[0, 1]]


def test_the_engine_in_a_process_trains_the_models_of_its_numbers(
    benchmark: Callable[[str], Any], make_work: Callable[..., Any]
) -> None:
    ways, work = benchmark("mil_ways"), make_work()
    whole, half = ways.Engine(work, 4), ways.Engine(work, 2, [2, 3])
    for way in (whole, half):
        way()
    for expected, found in zip(weights(whole)[2:], weights(half), strict=True):
        assert torch.equal(expected, found)


def test_small_bags_are_sized_like_real_ones(benchmark: Callable[[str], Any]) -> None:
    case = benchmark("mil_bags").cases(quick=False)["hipt"]
    sizes = torch.tensor(case.sizes[: len(case.sizes) // 16 * 16])
    rows = sizes.view(-1, 16).amax(1).sum() * 16 / sizes.sum()
    assert len(case.sizes) == 1102
    assert 34 <= sizes.median() <= 40
    assert 2.0 < rows < 2.7


def test_a_lead_is_over_all_models_and_names_the_best_rival(
    benchmark: Callable[[str], Any],
) -> None:
    wall = {"engine": 2.0, "engine_one_process": 3.0, "plain": 6.0, "processes": 5.0}
    cpu = {"engine": 4.0, "engine_one_process": 4.0, "plain": 6.0, "processes": 10.0}
    ways = {n: {"seconds": wall[n], "cpu_seconds": cpu[n]} for n in wall}
    assert benchmark("mil_engine").lead(ways) == {
        "ratio": {"engine_one_process": 1.5, "plain": 3.0, "processes": 2.5},
        "cpu_ratio": {"engine_one_process": 1.0, "plain": 1.5, "processes": 2.5},
        "best_rival": "processes",  # not the engine itself
    }


def test_a_row_scales_ways_that_trained_a_few(
    benchmark: Callable[[str], Any], make_work: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = benchmark("mil_engine")
    for name in ("processes", "torchmil", "vmap"):
        monkeypatch.delitem(module.WAYS, name)
    monkeypatch.setitem(module.WAYS, "engine", module.WAYS["engine_one_process"])  # starts nothing
    found = module.row(make_work(arms=5, streams=1), rounds=1, limit=100.0)
    plain = found["ways"]["plain"]
    assert (plain["trained"], found["ways"]["engine"]["trained"]) == (2, 5)
    assert plain["seconds"] == pytest.approx(plain["each"][0][0] * 5 / 2)
    facts = {"models": 5, "steps": 3, "instances": 69, "median_instances": 5}
    assert {key: found[key] for key in facts} == facts


def test_what_is_not_there_is_said(
    benchmark: Callable[[str], Any], make_work: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    ways = benchmark("mil_ways")
    monkeypatch.setattr(ways.importlib.util, "find_spec", lambda name: None)
    assert "pip install torchmil==1.0.2" in ways.impossible("torchmil", make_work())
    assert ways.impossible("padded", make_work(aggregator="mean"))
    assert ways.impossible("plain", make_work(aggregator="mean")) == ""


def test_memory_is_what_was_held_at_once(benchmark: Callable[[str], Any]) -> None:
    figures = benchmark("mil_figures")
    # Pages of their own: the allocator would give what earlier tests have returned.
    kind = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    with figures.watched() as most, mmap.mmap(-1, 100_000_000, flags=kind) as pages:
        held = np.frombuffer(pages, np.uint8)
        for value in range(500):  # until it was looked at while all of it was held
            held[:] = value % 256
            if most() > 60e6:
                break
        del held
    assert 60e6 < most() < 200e6


def test_the_shares_of_an_epoch_are_all_of_it(
    benchmark: Callable[[str], Any], make_work: Callable[..., Any]
) -> None:
    shares = benchmark("mil_figures").profiled(make_work(objective="ncmi"))["shares"]
    assert sum(shares.values()) == pytest.approx(1)
    assert min(shares.values()) > 0


def test_rows_of_an_earlier_run_stay(benchmark: Callable[[str], Any], tmp_path: Path) -> None:
    def row(models: int, value: int) -> dict[str, Any]:
        return {"bags": "hipt", "aggregator": "abmil", "models": models, "value": value}

    path = tmp_path / "old.json"
    path.write_text(json.dumps({"machine": {}, "loss": 1, "rows": [row(1, 0), row(12, 0)]}))
    found = benchmark("mil_engine").merged(path, {"rows": [row(12, 1)]})
    assert found == {"loss": 1, "rows": [row(1, 0), row(12, 1)]}


def test_filled_bags_give_the_same_embeddings(benchmark: Callable[[str], Any]) -> None:
    cuda = benchmark("mil_cuda")
    torch.manual_seed(0)
    module = registry.load("aggregator", "abmil")
    aggregator = module.build(8, 2, module.Options(**ABMIL)).eval()
    bags = BagBatch.of([torch.randn(n, 8) for n in (3, 1, 5)])
    given = cuda.filled(bags, bucket=4)
    assert given.features.shape == (12, 8)
    assert given.index.tolist() == [0, 0, 0, 1, 2, 2, 2, 2, 2, 3, 3, 3]
    found = cuda.IndexedABMIL(aggregator, 3)(given)
    torch.testing.assert_close(found, aggregator(bags).embedding)


def test_the_share_of_the_matmul_rate(benchmark: Callable[[str], Any]) -> None:
    cuda, bags = benchmark("mil_cuda"), benchmark("mil_bags")
    case = bags.Case("one", (10,), 3, 1, 2)
    # Forward 10·(3·4 + 2·4·5)·2; backward twice that, less the features' gradient.
    assert cuda.flops_of_step(case, 4, 5, 10) == 3 * 2 * 10 * (12 + 40) - 2 * 10 * 12
    assert cuda.achieved_share(4e12, 2.0, 8e12) == 0.25


def test_without_a_card_nothing_is_measured(
    benchmark: Callable[[str], Any], capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert benchmark("mil_cuda").measured(argparse.Namespace()) is None
    assert "no CUDA device" in capsys.readouterr().out
