"""Cases, bags and totals for tests that run over every registered aggregator."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from wsi_ncmi import registry
from wsi_ncmi.aggregators.bags import BagBatch
from wsi_ncmi.aggregators.interface import Aggregator, BagOutput

DIM, CLASSES = 16, 3
SIZES = (7, 1, 12, 3)
TARGETS = torch.tensor([0, 1, 2, 0])

Case = tuple[str, Mapping[str, Any]]

VARIANTS: list[Case] = [
    ("dtfd", {"distillation": "MaxMinS"}),
    ("dtfd", {"distillation": "MAS", "joint": True}),
    ("aem", {"annealing_steps": 4, "dropout": 0.25}),
    ("abmil", {"gated": False, "instance_dims": (32, 8)}),
    ("clam_sb", {"subtyping": True, "instances": 2}),
    ("clam_mb", {"subtyping": True}),
    ("dsmil", {"query": "linear", "value": "linear", "dropout": 0.25}),
    ("ilra", {"rank": 3}),
    ("rrt", {"regions": 2, "shortcut": True, "gated": True, "activation": "tanh"}),
    ("transformer", {"pooling": "attention", "dropout": 0.1}),
]
"""Options that are worth the whole contract, beside every aggregator's defaults."""

CASES: list[Case] = [*((name, {}) for name in registry.names("aggregator")), *VARIANTS]

NARROW: Mapping[str, Any] = {
    "hidden_dim": 16,
    "attention_dim": 8,
    "query_dim": 8,
    "feed_forward_dim": 8,
    "heads": 1,
}
"""Option -> a small size, for long bags; of the options that an aggregator has."""

SELECTIVE: frozenset[str] = frozenset(
    {"max_pool", "dtfd-distillation=MaxMinS", "dtfd-distillation=MAS-joint=True"}
)
"""Cases, by their identifiers, in which, by their equations, not every instance of a bag counts."""


def identifier(case: Case) -> str:
    return "-".join([case[0], *(f"{name}={value}" for name, value in case[1].items())])


def build(case: Case, seed: int = 0, narrow: bool = False) -> Aggregator:
    """The case's aggregator with the start of a seed, in eval mode."""
    module = registry.load("aggregator", case[0])
    known = {field.name for field in dataclasses.fields(module.Options)}
    widths = {name: value for name, value in NARROW.items() if narrow and name in known}
    torch.manual_seed(seed)
    built: Aggregator = module.build(DIM, CLASSES, module.Options(**{**widths, **case[1]}))
    return built.eval()


def made_bags(sizes: tuple[int, ...] = SIZES, dtype: torch.dtype = torch.float32) -> BagBatch:
    rng = torch.Generator().manual_seed(1)
    return BagBatch.of([torch.randn(n, DIM, generator=rng).to(dtype) for n in sizes])


def total(aggregator: Aggregator, output: BagOutput) -> Tensor:
    """A training's total, with a fixed linear head in each objective's place."""
    embedding = output.embedding
    weights = torch.arange(embedding.numel(), dtype=embedding.dtype).cos()
    found = output.bag_weight * (embedding.flatten() * weights).sum()
    for name, auxiliary in output.auxiliary.items():
        if len(auxiliary.target) == 0:
            continue
        declared = aggregator.auxiliaries[name]
        logits = auxiliary.embedding
        if not declared.scores:
            head = torch.arange(declared.dim * declared.classes, dtype=logits.dtype).cos()
            logits = logits @ head.reshape(declared.dim, declared.classes) / math.sqrt(declared.dim)
        found = found + auxiliary.weight * functional.cross_entropy(logits, auxiliary.target)
    return found if output.penalty is None else found + output.penalty
