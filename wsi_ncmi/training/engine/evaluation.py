"""What many models make of a part of their streams: embeddings, scores, and how good they are."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._pytree import tree_map

from wsi_ncmi.losses.calibration import Calibration, Kind, fitted
from wsi_ncmi.losses.objective import Phase
from wsi_ncmi.training.engine.group import Group
from wsi_ncmi.training.engine.members import Family, Stream
from wsi_ncmi.training.engine.step import Batch, Piece, forward
from wsi_ncmi.training.evaluation import batches_of
from wsi_ncmi.training.joint import JointObjective
from wsi_ncmi.training.precision import mixed

# The buffers of an objective that a `Calibration` is kept in.
CALIBRATION = ("log_scale", "class_scale", "score_bias")


@dataclass(eq=False)
class Embeddings:
    """A part of a stream as its k models embed it.

    Attributes:
        z: [k, n, m], float32 or float64.
        targets: [n].
        auxiliary: name -> embeddings [k, n', d] and pseudo-targets [k, n'].
    """

    stream: Stream
    z: Tensor
    targets: Tensor
    auxiliary: dict[str, tuple[Tensor, Tensor]]


@torch.no_grad()
def embed(group: Group, stream: Stream, part: str) -> Embeddings:
    """In eval mode, in the part's own order."""
    passes: dict[int, list[Piece]] = {}
    targets = []
    for bags, target in batches_of(stream.data, part):
        targets.append(target)
        batch = Batch(stream, stream.network.prepared(bags), target, stream.models)
        for one in itertools.chain.from_iterable(group.passes([batch])):
            with mixed(group.precision, group.device):
                piece = forward(group.aggregators, one, None, training=False)
            for place in range(one.models.start, one.models.stop):
                passes.setdefault(place, []).append(piece)
    rows = [_joined(pieces, slice(at, at + 1)) for at, pieces in passes.items()]
    z, auxiliary = tree_map(lambda *t: torch.stack(t), rows[0], *rows[1:])
    return Embeddings(stream, z, torch.cat(targets), auxiliary)


def _joined(pieces: list[Piece], models: slice) -> tuple[Tensor, dict[str, tuple[Tensor, Tensor]]]:
    """One model's embeddings [n, m] and auxiliary ones, from its batches."""
    found = [piece.rows(models) for piece in pieces]
    z = torch.cat([rows[0][0] for rows in found])
    auxiliary = {}
    for name in found[0][2]:
        own = [rows[2][name] for rows in found]
        auxiliary[name] = torch.cat([a[0][0] for a in own]), torch.cat([a[1][0] for a in own])
    return (z if z.dtype == torch.float64 else z.float()), auxiliary


def families_within(group: Group, stream: Stream) -> Iterator[tuple[Family, slice, slice]]:
    """The families of a stream's models: their places in the family, and in the stream."""
    for family in group.families:
        own = family.within(stream.models)
        if own.start < own.stop:
            start = stream.models.start
            places = family.places[own]
            yield family, own, slice(places[0] - start, places[-1] + 1 - start)


@torch.no_grad()
def fit_phase(group: Group, phase: Phase) -> Tensor:
    """`start` or `classes`, from the training part; True [K] where all embeddings are finite."""
    finite = torch.ones(len(group), dtype=torch.bool, device=group.device)
    for stream in group.streams:
        families = list(families_within(group, stream))
        kinds = {family: _joint(family).main.samples_of(phase) for family, *_ in families}
        for kind in sorted({*kinds.values()}):
            found = embed(group, stream, kind)
            finite[stream.models] &= found.z.isfinite().flatten(1).all(1)
            for family, own, rows in families:
                if kinds[family] == kind:
                    _fit(family, own, phase, found, rows)
    return finite


def needs(group: Group, phase: Phase) -> bool:
    """Whether a phase has a pass for any of the models."""
    return any(_joint(family).main.passes(phase) for family in group.families)


def _fit(family: Family, own: slice, phase: Phase, found: Embeddings, rows: slice) -> None:
    count = own.stop - own.start
    given = {"": (found.z[rows], found.targets.expand(count, -1))}
    if phase == "start":
        given |= {n: (z[rows], y[rows]) for n, (z, y) in found.auxiliary.items()}
    for name, (z, y) in given.items():

        def objective(joint: JointObjective, name: str = name) -> Any:
            return joint.auxiliary[name] if name else joint.main

        def collect(joint: JointObjective, z: Tensor, y: Tensor) -> dict[str, Tensor]:
            objective(joint).collect(phase, z, y)
            return {}

        def finish(joint: JointObjective) -> dict[str, Tensor]:
            objective(joint).finish(phase)
            return {}

        for _ in range(objective(_joint(family)).passes(phase)):
            family.call(collect, own, z, y)
            family.call(finish, own)


def _joint(family: Family) -> JointObjective:
    joint = family.stack.base
    assert isinstance(joint, JointObjective)
    return joint


@dataclass(eq=False)
class Validated:
    """How K models do on validation.

    Attributes:
        macro_f1, loss: [K]; the loss is that of the calibrated scores' likelihood, float64.
        finite: [K, 2], of embeddings and scores.
        scores: of each model, calibrated [n, C] float32.
    """

    macro_f1: Tensor
    loss: Tensor
    finite: Tensor
    scores: list[Tensor]


@torch.no_grad()
def validate(group: Group, *, keep_calibration: bool = False) -> Validated:
    """Every model on its validation part.

    Args:
        keep_calibration: leave what was fitted with the objectives.
    """
    count, device = len(group), group.device
    f1 = torch.zeros(count, dtype=torch.float64, device=device)
    loss, finite = f1.clone(), torch.ones(count, 2, dtype=torch.bool, device=device)
    scores: list[Tensor] = []
    for stream in group.streams:
        found = embed(group, stream, "val")
        scaled = _calibrated(group, stream, found, keep_calibration)
        models = stream.models
        finite[models, 0] = found.z.isfinite().flatten(1).all(1)
        finite[models, 1] = scaled.float().isfinite().flatten(1).all(1)
        f1[models] = macro_f1(scaled.argmax(2), found.targets, scaled.shape[2])
        each = F.cross_entropy(
            scaled.double().transpose(1, 2),
            found.targets.expand(len(scaled), -1),
            reduction="none",
        )
        loss[models] = each.mean(1)
        scores += list(scaled.float().unbind(0))
    return Validated(f1, loss, finite, scores)


def _calibrated(group: Group, stream: Stream, found: Embeddings, keep: bool) -> Tensor:
    """Scores [k, n, C] of a stream's models as their objectives calibrate them."""
    scores = []
    for family, own, rows in families_within(group, stream):
        raw = family.call(lambda joint, z: joint.main.raw_scores(z), own, found.z[rows])
        members = [group.members[place] for place in family.places[own]]
        kinds = [member.setup.settings.calibration for member in members]
        # As an objective keeps it.
        calibration = Calibration(*(t.float() for t in _fitted(kinds, raw, found.targets)))
        if keep:
            for name, value in zip(CALIBRATION, calibration, strict=True):
                family.stack.buffers[f"main.{name}"][own] = value
        scores.append(calibration(raw))
    return torch.cat(scores)


def _fitted(kinds: Sequence[Kind], raw: Tensor, targets: Tensor) -> Calibration:
    """Of models [k, n, C], each by its own kind."""
    rows = {kind: [i for i, one in enumerate(kinds) if one == kind] for kind in kinds}
    parts = [fitted(kind, raw[own], targets, len(targets)) for kind, own in rows.items()]
    order = torch.tensor([i for own in rows.values() for i in own], device=raw.device).argsort()
    return Calibration(*(torch.cat(column)[order] for column in zip(*parts, strict=True)))


def macro_f1(predicted: Tensor, targets: Tensor, classes: int) -> Tensor:
    """Mean F1 over the classes of the targets: [..., n] predictions, [n] targets -> [...].

    A class that is never predicted has 0, as in scikit-learn with `zero_division=0`.
    """
    numbers = torch.arange(classes, device=targets.device)
    truth = targets[:, None] == numbers  # [n, C]
    guess = predicted[..., None] == numbers
    hits = (guess & truth).sum(-2).double()
    f1 = 2 * hits / (guess.sum(-2) + truth.sum(0)).clamp_min(1)
    present = truth.any(0).double()
    return (f1 * present).sum(-1) / present.sum()
