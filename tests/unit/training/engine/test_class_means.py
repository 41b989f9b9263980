"""Class means over the augmented training part, by the engine and by the plain loop."""

from collections.abc import Sequence
from typing import Any

import torch
from made_groups import MemoryBags, made_setup, states
from numpy.typing import NDArray

from wsi_ncmi.training.engine.fit import fit
from wsi_ncmi.training.execute import Setup


class Copies(MemoryBags):
    """With an augmented copy of each bag, far from the original."""

    augmented = ("copy",)

    def bags(self, slide_ids: Sequence[str], copy: int | None = None) -> list[NDArray[Any]]:
        return [bag if copy is None else bag - 3 for bag in super().bags(slide_ids)]


def setups(cache: MemoryBags) -> list[Setup]:
    samples = ("plain", "augmented", "plain")
    parts = ("ncmi", "ncmi", "cross_entropy")
    return [
        made_setup(cache, part, {"class_mean_samples": one} if part == "ncmi" else {}, epochs=2)
        for part, one in zip(parts, samples, strict=True)
    ]


def means(setup: Setup) -> torch.Tensor:
    return setup.objective.main.log_means


def test_both_loops_take_the_same_augmented_bags() -> None:
    together, alone = setups(Copies(30)), setups(Copies(30))
    fit(together)
    for one, other in zip(together, alone, strict=True):
        other.fit()
        for name, tensor in states(other).items():
            torch.testing.assert_close(states(one)[name], tensor, rtol=2e-3, atol=2e-4, msg=name)
    plain, augmented, _ = together
    assert (means(plain) - means(augmented)).abs().max() > 1e-3


def test_without_augmented_copies_they_are_the_plain_ones() -> None:
    plain, augmented, _ = found = setups(MemoryBags(30))
    fit(found)
    torch.testing.assert_close(means(plain), means(augmented))


def test_every_training_bag_is_seen_once() -> None:
    data = made_setup(Copies(30)).data
    targets = torch.cat([target for _, target in data.augmented()])
    plain = torch.cat([target for _, target in data.evaluation("train")])
    assert torch.equal(targets, plain)
