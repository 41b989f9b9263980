"""A group's training on disk: it can be interrupted anywhere, and goes on to the same weights.

A checkpoint holds models, objectives, optimisers, what is kept, sums and histories, and where the
epoch is. Random numbers derive from the step, so no generator's state is needed. Rows are named by
their runs' digests: a part of a group goes on from the checkpoint of the whole.
"""

import logging
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from wsi_ncmi.files.atomic import atomic_path
from wsi_ncmi.provenance import digest
from wsi_ncmi.training.engine.group import Group
from wsi_ncmi.training.engine.members import Member
from wsi_ncmi.training.engine.selection import KeptStack

SECONDS = 300.0
SUFFIX = ".pt"

log = logging.getLogger(__name__)


class Interrupted(SystemExit):
    """The training was asked to end, and has written its checkpoint."""


class Checkpoints:
    """Where a group's checkpoints lie, and when the next one is due.

    Args:
        folder: None: there are none.
        name: of the file, without what tells groups apart.
        seconds: between two of them.
    """

    def __init__(self, folder: Path | None, name: str, seconds: float = SECONDS) -> None:
        self.folder, self.name, self.seconds = folder, name, seconds
        self.asked: int | None = None
        self.last = time.monotonic()

    @property
    def is_due(self) -> bool:
        """Whether it is time, or the process was asked to end."""
        late = time.monotonic() - self.last >= self.seconds
        return self.folder is not None and (self.asked is not None or late)

    def write(self, runs: Sequence[str], content: Mapping[str, Any]) -> None:
        """Replace the group's checkpoint; it is whole or not there.

        Raises:
            Interrupted: the process was asked to end.
        """
        if self.folder is not None:
            path = self.folder / f"{self.name}--{digest(sorted(runs))[:12]}{SUFFIX}"
            with atomic_path(path) as temporary:
                torch.save({"runs": list(runs), **content}, temporary)
            self.last = time.monotonic()
            log.info("checkpoint: %s", path.name)
        if self.asked is not None:
            raise Interrupted(128 + self.asked)

    def find(self, runs: Sequence[str]) -> dict[str, Any] | None:
        """The newest checkpoint that has all of some runs."""
        for path in sorted(self._files(), key=lambda p: p.stat().st_mtime, reverse=True):
            content = _read(path)
            if content is not None and set(runs) <= set(content["runs"]):
                log.info("going on from %s", path.name)
                return content
        return None

    def remove(self) -> None:
        """When everything is recorded."""
        for path in self._files():
            path.unlink()

    def _files(self) -> list[Path]:
        return list(self.folder.glob(f"{self.name}--*{SUFFIX}")) if self.folder else []

    @contextmanager
    def catching(self) -> Iterator[None]:
        """SIGTERM and SIGINT end the training after its step; a second one ends it at once."""
        signals = (signal.SIGTERM, signal.SIGINT)

        def ask(number: int, frame: FrameType | None) -> None:
            self.asked = number
            for one, handler in zip(signals, before, strict=True):
                signal.signal(one, handler)

        if self.folder is None or not _in_main_thread():
            yield
            return
        before = [signal.getsignal(one) for one in signals]
        for one in signals:
            signal.signal(one, ask)
        try:
            yield
        finally:
            for one, handler in zip(signals, before, strict=True):
                signal.signal(one, handler)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        return content if "runs" in content else None
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, UnpicklingError) as error:
        log.warning("the checkpoint %s is damaged and left out: %s", path, error)
        return None


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def state(group: Group, kept: KeptStack) -> dict[str, Any]:
    """All tensors of a group, with the runs that its rows are of."""
    found = {
        "rows": [run_of(member) for member in group.members],
        "aggregators": group.aggregators.tensors,
        "optimiser": group.optimiser.state,
        "largest_norm": {"": group.largest_norm},
        "kept": kept.tensors,
        "families": [],
    }
    for number, family in enumerate(group.families):
        own = {
            "rows": [run_of(group.members[place]) for place in family.places],
            "stack": family.stack.tensors,
            "optimiser": family.optimiser.state,
            "centroids": {"done": family.centroids.schedule.done},
            "kept": kept.states[number + 1] if kept.states else {},
        }
        found["families"].append(own)  # type: ignore[attr-defined]
    found["kept_aggregators"] = kept.states[0] if kept.states else {}
    return found


def restore(group: Group, kept: KeptStack, saved: Mapping[str, Any]) -> None:
    """Give a group, all of whose runs are in a checkpoint, the state that they have there."""
    rows = [saved["rows"].index(run_of(member)) for member in group.members]
    _copy(group.aggregators.tensors, saved["aggregators"], rows)
    _copy(group.optimiser.state, saved["optimiser"], rows)
    _copy({"": group.largest_norm}, saved["largest_norm"], rows)
    _copy(kept.tensors, saved["kept"], rows)
    states = [_rows(saved["kept_aggregators"], rows, group.device)]
    by_run = {run: family for family in saved["families"] for run in family["rows"]}
    for family in group.families:
        runs = [run_of(group.members[place]) for place in family.places]
        own = by_run[runs[0]]
        rows = [own["rows"].index(run) for run in runs]
        _copy(family.stack.tensors, own["stack"], rows)
        _copy(family.optimiser.state, own["optimiser"], rows)
        _copy({"done": family.centroids.schedule.done}, own["centroids"], rows)
        states.append(_rows(own["kept"], rows, group.device))
    kept.states = states if states[0] else None


def run_of(member: Member) -> str:
    """What names a run in a checkpoint."""
    return member.setup.run.model_digest


def _copy(tensors: Mapping[str, Tensor], saved: Mapping[str, Tensor], rows: list[int]) -> None:
    for name, tensor in tensors.items():
        tensor.copy_(saved[name][rows])


def _rows(saved: Mapping[str, Tensor], rows: list[int], device: torch.device) -> dict[str, Tensor]:
    return {name: tensor[rows].to(device) for name, tensor in saved.items()}
