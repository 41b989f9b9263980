"""Train a group of runs of one aggregator in one pass."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from wsi_ncmi.training.checkpoint import Checkpoints
from wsi_ncmi.training.engine.checkpoint import restore, run_of, state
from wsi_ncmi.training.engine.evaluation import Validated, fit_phase, needs, validate
from wsi_ncmi.training.engine.group import Group, Sums
from wsi_ncmi.training.engine.members import Member
from wsi_ncmi.training.engine.optimisers import shared
from wsi_ncmi.training.engine.progress import Progress
from wsi_ncmi.training.engine.selection import KeptStack
from wsi_ncmi.training.execute import Setup
from wsi_ncmi.training.finite import History, NotFiniteError, check_finite, reason
from wsi_ncmi.training.precision import keep_float32, resolved
from wsi_ncmi.training.reference import check_batch_size
from wsi_ncmi.training.tensorboard import Events
from wsi_ncmi.training.watch import watch

# Parameters, gradients and two moments of all models of a pass, float32.
LARGEST_STATE = 512 * 2**20
COPIES = 4


def fit(group: Sequence[Setup], checkpoints: Checkpoints | None = None) -> list[History]:
    """Train in place; equal to `reference.fit` of each, to the rounding of another order of sums.

    A model that diverges is left out from then on, and its history says why; its neighbours go on.

    Args:
        group: runs of one aggregator with its options, in any order.
        checkpoints: where it goes on from and writes them; None: nowhere.

    Raises:
        Interrupted: the process was asked to end, and the checkpoint is written.
    """
    keep_float32()
    members = [Member(setup) for setup in group]
    for member in members:
        setup = member.setup
        main = setup.objective.main
        check_batch_size(main, setup.settings, setup.run.run_id)
        setup.objective.schedule_over(member.steps)
        device = main.class_counts.device
        member.network.precision = resolved(setup.settings, device).precision
    kept, progress = checkpoints or Checkpoints(None, ""), Progress(members)
    with kept.catching(), Events.asked() as events:
        for part in parts_of(members):
            Fit(part, kept, progress, events).run()
    progress.close()
    return [member.history for member in members]


def parts_of(members: Sequence[Member]) -> list[list[Member]]:
    """Members that can be one `Group`, and whose states fit into memory together.

    Models of a stream stay together, which read its bags once for all.
    """
    kinds: dict[Any, list[Member]] = {}
    for member in members:
        key = shared(member.setup.settings), member.network.precision
        kinds.setdefault(key, []).append(member)
    found = []
    for kind in kinds.values():
        ordered = sorted(kind, key=lambda m: repr(m.data.key))
        size = sum(p.numel() for p in ordered[0].network.parameters()) * 4 * COPIES
        most = max(1, LARGEST_STATE // max(1, size))
        found += [ordered[at : at + most] for at in range(0, len(ordered), most)]
    return found


class Fit:
    """The training of one group.

    Attributes:
        group: the models that still train.
        epoch, step: where they are.
    """

    def __init__(
        self,
        members: Sequence[Member],
        checkpoints: Checkpoints,
        progress: Progress,
        events: Events,
    ) -> None:
        self.members, self.checkpoints = members, checkpoints
        self.progress, self.events = progress, events
        self.group = Group(members)
        self.kept = KeptStack(self.group)
        self.epoch = 0
        self.step = 0
        self.sums = Sums(len(self.group), self.group.device)

    def run(self) -> None:
        """Until every model has left."""
        found = self.checkpoints.find([run_of(member) for member in self.members])
        if found is None:
            finite = fit_phase(self.group, "start")
            self._drop(finite, self._embeddings("train"))
            self.sums = Sums(len(self.group), self.group.device)
        else:
            self._go_on(found)
        while len(self.group):
            for member in self.group.members:
                member.history.epoch = self.epoch
            self.group.train_epoch(self.sums, self.epoch, self.step, self._after_step)
            self._end_epoch()
            self.epoch, self.step = self.epoch + 1, 0
            self.sums = Sums(len(self.group), self.group.device)

        self._save()

    def _after_step(self, step: int) -> None:
        self.step = step
        self.progress.see(self.group.members, self.epoch, step)
        if self.checkpoints.is_due:
            self._save()

    def _save(self) -> None:
        training = {run_of(member) for member in self.group.members}
        left = [member for member in self.members if run_of(member) not in training]
        content = {
            "epoch": self.epoch,
            "step": self.step,
            "group": state(self.group, self.kept),
            "sums": self.sums.state,
            "histories": {run_of(m): asdict(m.history) for m in self.members},
            "left": {run_of(m): modules_state(m) for m in left},
        }
        self.checkpoints.write([run_of(member) for member in self.members], content)

    def _go_on(self, saved: dict[str, Any]) -> None:
        """From a checkpoint: models that had left have their weights, the others train on."""
        for member in self.members:
            vars(member.history).update(saved["histories"][run_of(member)])
            if run_of(member) in saved["left"]:
                load_modules(member, saved["left"][run_of(member)])
        rows = saved["group"]["rows"]
        training = [i for i, m in enumerate(self.group.members) if run_of(m) in rows]
        self._keep(training)
        restore(self.group, self.kept, saved["group"])
        self.epoch, self.step = saved["epoch"], saved["step"]
        order = [rows.index(run_of(member)) for member in self.group.members]
        self.sums = Sums.of(saved["sums"], order, self.group.device)

    def _end_epoch(self) -> None:
        means, watched = self.sums.means()
        finite = [all(map(math.isfinite, found.values())) for found in means]
        sound = torch.tensor(finite, device=self.group.device) & self._finite_state()
        rows = zip(self.group.members, means, watched, strict=True)
        curves = {id(member): {**found, **seen} for member, found, seen in rows}
        self._drop(sound, lambda place: self._diagnose(place, means[place]))
        for member in self.group.members:
            row = {"epoch": self.epoch, "part": "train", **curves[id(member)]}
            setup = member.setup
            main = setup.objective.main
            watch(member.history, row, setup.run.run_id, main, setup.settings, setup.steps)
        if not len(self.group):
            return
        now = validate(self.group)
        if not now.finite.all():
            index = self._drop(now.finite.all(1), self._unscored(now))
            now = _of(now, index)
        self._record(now)
        self.kept.see(self.epoch, now, self.group)
        self._let_go()

    def _record(self, now: Validated) -> None:
        rows = zip(now.loss.tolist(), now.macro_f1.tolist(), now.scores, strict=True)
        for member, (loss, f1, scores) in zip(self.group.members, rows, strict=True):
            row = {"epoch": self.epoch, "part": "val", "loss": loss, "macro_f1": f1}
            member.history.curves.append(row)
            member.history.validation.append(scores.cpu())
            member.history.epochs = self.epoch + 1
            self.events.see(member.setup.run, member.history)

    def _let_go(self) -> None:
        """Finish the models that have trained long enough."""
        stopped = self.kept.have_stopped(self.epoch).tolist()
        last = [m.setup.settings.epochs == self.epoch + 1 for m in self.group.members]
        leaving = [i for i, pair in enumerate(zip(stopped, last, strict=True)) if any(pair)]
        if leaving:
            finish(self.group.subset(leaving), self.kept.subset(leaving, self.group))
            self._keep([i for i in range(len(self.group)) if i not in set(leaving)])

    def _keep(self, places: list[int]) -> None:
        self.kept = self.kept.subset(places, self.group)
        self.group = self.group.subset(places)

    def _drop(self, sound: Tensor, diagnose: Any) -> list[int]:
        """Leave models out that diverged; returns the places of those that stay."""
        found = sound.tolist()
        stay = [i for i, fine in enumerate(found) if fine]
        for place, fine in enumerate(found):
            if not fine:
                _fail(self.group.members[place].history, lambda place=place: diagnose(place))
        if len(stay) < len(found):
            self._keep(stay)
        return stay

    def _finite_state(self) -> Tensor:
        group = self.group
        finite = group.largest_norm.isfinite()
        for tensor in group.aggregators.tensors.values():
            if tensor.is_floating_point():
                finite = finite & tensor.isfinite().view(len(tensor), -1).all(1)
        for family in group.families:
            for tensor in family.stack.tensors.values():
                if tensor.is_floating_point():
                    finite[family.places] &= tensor.isfinite().view(len(tensor), -1).all(1)
        return finite

    def _diagnose(self, place: int, means: dict[str, float]) -> None:
        group = self.group
        if not all(map(math.isfinite, means.values())):
            raise NotFiniteError(f"the loss is not finite ({means})")
        check_finite("the gradients", {"largest norm": group.largest_norm[place]})
        network = {f"aggregator.{n}": t for n, t in group.aggregators.state(place).items()}
        check_finite("the weights", network)
        for family in group.families:
            if place in family.places:
                check_finite("the weights", family.stack.state(family.places.index(place)))

    def _embeddings(self, part: str) -> Any:
        def diagnose(place: int) -> None:
            raise NotFiniteError(f"the embeddings are not finite (part {part})")

        return diagnose

    def _unscored(self, now: Validated) -> Any:
        def diagnose(place: int) -> None:
            what = "scores" if now.finite[place, 0] else "embeddings"
            raise NotFiniteError(f"the {what} are not finite (part val)")

        return diagnose


def finish(group: Group, kept: KeptStack) -> None:
    """Restore what was kept, fit what inference needs, and give the modules their state."""
    kept.restore(group)
    epochs = kept.epoch.tolist()
    sound = fit_phase(group, "classes") if needs(group, "classes") else None
    now = validate(group, keep_calibration=True)
    for place, member in enumerate(group.members):
        member.history.best_epoch = epochs[place]
        if sound is not None and not sound[place]:
            _fail(member.history, _unfit("embeddings", "train"))
        elif not now.finite[place].all():
            what = "scores" if now.finite[place, 0] else "embeddings"
            _fail(member.history, _unfit(what, "val"))
    for family in group.families:
        for at, place in enumerate(family.places):
            states = group.aggregators.state(place), family.stack.state(at)
            load_modules(group.members[place], states)


def load_modules(member: Member, states: Sequence[Mapping[str, Tensor]]) -> None:
    """Give a member's aggregator and objective their states."""
    member.network.aggregator.load_state_dict(states[0])
    member.setup.objective.load_state_dict(states[1])


def modules_state(member: Member) -> list[dict[str, Tensor]]:
    """The states of a member's aggregator and objective."""
    return [member.network.aggregator.state_dict(), member.setup.objective.state_dict()]


def _unfit(what: str, part: str) -> Any:
    def diagnose() -> None:
        raise NotFiniteError(f"the {what} are not finite (part {part})")

    return diagnose


def _fail(history: History, diagnose: Any) -> None:
    try:
        diagnose()
    except NotFiniteError as error:
        history.failure = reason(error, history)


def _of(now: Validated, index: Sequence[int]) -> Validated:
    at = torch.tensor(index, dtype=torch.int64, device=now.loss.device)
    scores = [now.scores[i] for i in index]
    return Validated(now.macro_f1[at], now.loss[at], now.finite[at], scores)
