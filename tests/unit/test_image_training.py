"""benchmarks/image_training.py: both ways see the same images in the same number of steps."""

from collections.abc import Callable
from typing import Any

import pytest
import torch


@pytest.fixture
def module(benchmark: Callable[[str], Any]) -> Any:
    return benchmark("image_training")


@pytest.fixture
def work(module: Any) -> Any:
    cpu = torch.device("cpu")
    return module.Work(module.made_images(24), "test_resnet", 12, "fp32", 0, cpu)


def test_both_ways_load_every_image_once(module: Any, work: Any) -> None:
    own, plain = module.Own(work, "ncmi"), module.Plain(work)
    batches = list(own.data.training(0))
    assert [tuple(x.shape) for x, _ in batches] == [(12, 3, 32, 32)] * 2
    expected = torch.cat([y for _, y in plain.loader]).bincount()
    assert torch.equal(torch.cat([y for _, y in batches]).bincount(), expected)


def test_the_network_alone_takes_as_many_steps(module: Any, work: Any) -> None:
    one = module.Repeated(work, "cross_entropy")
    before = one.setup.network.encoder.module.conv1.weight.detach().clone()
    assert len(list(one.training(0))) == work.steps == 2
    one()
    assert not torch.equal(one.setup.network.encoder.module.conv1.weight, before)


def test_a_ratio_is_of_images_per_second(module: Any) -> None:
    found = {"a": {"each": [(1.0, 2.0), (1.0, 4.0)]}, "b": {"each": [(3.0, 4.0), (5.0, 8.0)]}}
    assert module.ratio(found, "a", "b", cpu=False) == 4.0
    assert module.ratio(found, "a", "b", cpu=True) == 2.0
