"""What the table of aggregators says of each, by building it."""

import inspect
import re
from typing import NamedTuple

from wsi_ncmi import registry

ARXIV = re.compile(r"arXiv (\d{4}\.\d{5})")


class Facts(NamedTuple):
    """An aggregator with its default options.

    Attributes:
        paper: the first sentence of its file.
        parameters: numbers that are trained, without an objective's.
        permutation_invariant: whether the order of a bag's instances changes nothing.
    """

    name: str
    paper: str
    parameters: int
    permutation_invariant: bool
    has_attention: bool


def facts(feature_dim: int, classes: int) -> list[Facts]:
    """Of every aggregator, by name."""
    return [_facts(name, feature_dim, classes) for name in registry.names("aggregator")]


def _facts(name: str, feature_dim: int, classes: int) -> Facts:
    module = registry.load("aggregator", name)
    built = module.build(feature_dim, classes, module.Options())
    first = " ".join((inspect.getdoc(module) or "").split("\n\n")[0].split())
    return Facts(
        name,
        ARXIV.sub(r"[\1](https://arxiv.org/abs/\1)", first.partition(";")[0].removesuffix(".")),
        sum(p.numel() for p in built.parameters() if p.requires_grad),
        built.permutation_invariant,
        built.has_attention,
    )
