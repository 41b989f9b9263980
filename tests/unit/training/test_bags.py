from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from wsi_ncmi.aggregators import mean
from wsi_ncmi.aggregators.bags import BagBatch
from wsi_ncmi.bags.cache import BagCache
from wsi_ncmi.config import Training
from wsi_ncmi.errors import BagError
from wsi_ncmi.training.bags import BagData, BagNetwork, feature_moments, fold_samples, packed

CPU = torch.device("cpu")


def data(
    cache: BagCache,
    splits: pd.DataFrame,
    classes: list[str],
    seed: int = 0,
    fold: int = 0,
    **settings: object,
) -> BagData:
    parts = fold_samples(splits.assign(fold=fold), fold, classes, cache)
    return BagData(cache, parts, Training(**settings), seed, fold, CPU)  # type: ignore[arg-type]


def firsts(batch: BagBatch) -> list[float]:
    """A number of each bag's first instance."""
    return batch.features[batch.offsets[:-1], 3].tolist()


def order(bags: BagData, epoch: int) -> list[float]:
    """Something that tells every bag of an epoch from the others, in their order."""
    return [x for batch, _ in bags.training(epoch) for x in firsts(batch)]


def test_samples_of_each_part(cache: BagCache, splits: pd.DataFrame, classes: list[str]) -> None:
    parts = fold_samples(splits, 0, classes, cache)
    assert {part: len(found) for part, found in parts.items()} == {
        "train": 18,
        "val": 6,
        "test": 12,
    }
    first = parts["val"][0]
    assert (first.sample_id, first.slide_ids, first.patient_id) == ("s18", ("s18",), "p09")
    assert first.target == 0


def test_a_patients_bag_joins_its_slides(
    cache: BagCache, splits: pd.DataFrame, classes: list[str]
) -> None:
    splits = splits.assign(sample_id=splits.patient_id)
    parts = fold_samples(splits, 0, classes, cache)
    assert len(parts["train"]) == 9
    assert parts["train"][1].slide_ids == ("s02", "s03")
    bags = BagData(cache, parts, Training(batch_size=9), 0, 0, CPU)
    batch, target = next(bags.evaluation("train"))
    joined = np.concatenate([cache.read(["s02"]), cache.read(["s03"])])
    assert np.array_equal(batch.split(batch.features)[1].numpy(), joined.astype(np.float32))
    assert target.tolist() == [0, 1, 2] * 3


def test_slides_without_a_bag_are_left_out(
    cache: BagCache, splits: pd.DataFrame, classes: list[str]
) -> None:
    lost = splits.replace({"slide_id": {"s00": "broken"}})
    assert len(fold_samples(lost, 0, classes, cache)["train"]) == 17


def test_a_part_without_a_bag_is_refused(
    cache: BagCache, splits: pd.DataFrame, classes: list[str]
) -> None:
    gone = splits.slide_id.where(splits.part != "val", "gone-" + splits.slide_id)
    with pytest.raises(BagError) as error:
        fold_samples(splits.assign(slide_id=gone), 0, classes, cache)
    assert str(error.value).startswith(
        "fold 0: no bag in part val (gone-s18: no bag of this slide_id; gone-s19"
    )


def test_a_class_without_a_bag_is_refused(
    cache: BagCache, splits: pd.DataFrame, classes: list[str]
) -> None:
    lost = (splits.part == "train") & (splits.label == "c")
    broken = splits.assign(slide_id=splits.slide_id.where(~lost, "gone-" + splits.slide_id))
    with pytest.raises(BagError, match="fold 0: no bag of class c is left to train on"):
        fold_samples(broken, 0, classes, cache)


def test_bags_are_packed_as_float32() -> None:
    first, second = np.ones((2, 3), np.float16), np.full((4, 3), 2, np.float16)
    batch = packed([[first], [second, first]], CPU)
    assert batch.features.dtype == torch.float32
    assert batch.features[:, 0].tolist() == [1, 1, 2, 2, 2, 2, 1, 1]
    assert batch.offsets.tolist() == [0, 2, 8]


def test_an_epoch_goes_on_from_any_step(
    make_cache: Callable[..., BagCache], splits: pd.DataFrame, classes: list[str]
) -> None:
    bags = data(make_cache(copies=2), splits, classes, batch_size=4)
    whole = [firsts(batch) for batch, _ in bags.training(2)]
    assert [firsts(batch) for batch, _ in bags.training(2, first=3)] == whole[3:]


def test_a_stream_of_its_own(cache: BagCache, splits: pd.DataFrame, classes: list[str]) -> None:
    parts = fold_samples(splits, 0, classes, cache)
    paired, other = (BagData(cache, parts, Training(), 0, 0, CPU, name) for name in ("", "b"))
    assert order(paired, 0) != order(other, 0)
    assert sorted(order(paired, 0)) == sorted(order(other, 0))


@pytest.mark.parametrize(("batch_size", "steps"), [(1, 18), (5, 4), (18, 1), (64, 1)])
def test_steps_per_epoch(
    cache: BagCache, splits: pd.DataFrame, classes: list[str], batch_size: int, steps: int
) -> None:
    bags = data(cache, splits, classes, batch_size=batch_size)
    assert bags.steps_per_epoch() == steps == len(list(bags.training(0)))


def test_an_epoch_sees_every_bag_once(
    cache: BagCache, splits: pd.DataFrame, classes: list[str]
) -> None:
    bags = data(cache, splits, classes, batch_size=4)
    once = [firsts(bag)[0] for bag, _ in data(cache, splits, classes).evaluation("train")]
    assert sorted(order(bags, 0)) == sorted(once)
    assert order(bags, 0) != once


def test_order_derives_from_seed_fold_and_epoch_alone(
    cache: BagCache, splits: pd.DataFrame, classes: list[str]
) -> None:
    first = data(cache, splits, classes, seed=1, fold=2, batch_size=4)
    torch.manual_seed(5)
    again = data(cache, splits, classes, seed=1, fold=2, batch_size=7)
    list(again.training(4))  # what was drawn before plays no part
    assert order(first, 1) == order(again, 1)
    others = [
        order(first, 0),
        order(data(cache, splits, classes, seed=2, fold=2), 1),
        order(data(cache, splits, classes, seed=1, fold=3), 1),
    ]
    assert all(other != order(first, 1) for other in others)


def test_evaluation_keeps_the_order_of_the_samples(
    cache: BagCache, splits: pd.DataFrame, classes: list[str]
) -> None:
    bags = data(cache, splits, classes, batch_size=5)
    targets = torch.cat([target for _, target in bags.evaluation("test")])
    assert targets.tolist() == [s.target for s in bags.parts["test"]]
    values = [x for batch, _ in bags.evaluation("test") for x in firsts(batch)]
    expected = [float(cache.read(s.slide_ids)[0, 3]) for s in bags.parts["test"]]
    assert values == expected


def test_balanced_sampling(cache: BagCache, splits: pd.DataFrame, classes: list[str]) -> None:
    # Class c keeps one of its six training slides.
    rare = splits[~splits.slide_id.isin(["s05", "s10", "s11", "s16", "s17"])]
    shares = {}
    for sampling in ("shuffled", "balanced"):
        bags = data(cache, rare, classes, sampling=sampling, batch_size=4)
        drawn = torch.cat([y for epoch in range(100) for _, y in bags.training(epoch)])
        assert len(drawn) == 1300
        shares[sampling] = (torch.bincount(drawn, minlength=3) / len(drawn)).tolist()
    assert shares["shuffled"] == pytest.approx([6 / 13, 6 / 13, 1 / 13], abs=1e-6)
    assert shares["balanced"] == pytest.approx([1 / 3, 1 / 3, 1 / 3], abs=0.05)


def test_augmented_views_are_drawn_in_training_only(
    make_cache: Callable[..., BagCache], splits: pd.DataFrame, classes: list[str]
) -> None:
    bags = data(make_cache(copies=2), splits, classes, batch_size=4)
    seen = [round(value / 10) for epoch in range(60) for value in order(bags, epoch)]
    counts = np.bincount(seen, minlength=3) / len(seen)
    assert len(counts) == 3
    assert counts == pytest.approx([1 / 3] * 3, abs=0.05)
    assert order(bags, 3) == order(bags, 3)
    evaluated = [x for batch, _ in bags.evaluation("train") for x in firsts(batch)]
    assert {round(value / 10) for value in evaluated} == {0}


def test_moments_are_of_all_instances(
    cache: BagCache, splits: pd.DataFrame, classes: list[str]
) -> None:
    samples = fold_samples(splits, 0, classes, cache)["val"]
    average, deviation = feature_moments(cache, samples)
    rows = np.concatenate([cache.read(s.slide_ids) for s in samples]).astype(np.float64)
    np.testing.assert_allclose(average, rows.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(deviation, rows.std(0), rtol=1e-5)


def test_standardised_features() -> None:
    aggregator = mean.build(3, 2, mean.Options(hidden_dim=4))
    average, deviation = np.array([1.0, -2.0, 5.0]), np.array([2.0, 0.5, 0.0])
    moments = average.astype(np.float32), deviation.astype(np.float32)
    bag = BagBatch.of([torch.tensor([[3.0, -2.0, 5.0], [1.0, -1.0, 7.0]])])
    # The third never varied in training: it says nothing, whatever it is later.
    seen = BagNetwork(aggregator, moments).prepared(bag).features
    assert seen.tolist() == [[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]]
    assert BagNetwork(aggregator).prepared(bag) is bag


def test_one_bag_of_two_patients_is_not_trained_on(
    cache_folder: Path, splits: pd.DataFrame, classes: list[str]
) -> None:
    """The sheet's patients may have changed since the bags were packed."""
    cache = BagCache(cache_folder)
    cache.index.loc["s01", "same_as"] = "s00"
    fold_samples(splits, 0, classes, cache)  # both of p00
    cache.index.loc["s20", "same_as"] = "s00"
    with pytest.raises(BagError, match=r"s00 \(patient p00\), s01 .*, s20 \(patient p10\): they"):
        fold_samples(splits, 0, classes, cache)
