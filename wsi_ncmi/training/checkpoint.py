"""Trainings on disk: they can be interrupted anywhere, and go on to the same weights.

What a checkpoint holds, the trainings say: the engine of a group of models on bags
(`engine.checkpoint`), the plain loop of a network (`reference`). Random numbers derive from the
step, so no generator's state is needed.
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

from wsi_ncmi.files.atomic import atomic_path
from wsi_ncmi.provenance import digest
from wsi_ncmi.training.distributed import rank, wait_for_all

SECONDS = 300.0
SUFFIX = ".pt"

log = logging.getLogger(__name__)


class Interrupted(SystemExit):
    """The training was asked to end, and has written its checkpoint."""


class Checkpoints:
    """Where a training's checkpoints lie, and when the next one is due.

    Args:
        folder: None: there are none.
        name: of the file, without what tells the runs apart.
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
        """Replace the checkpoint of some runs, named by their digests; it is whole or not there.

        Of several processes the first writes.

        Raises:
            Interrupted: the process was asked to end.
        """
        if self.folder is not None:
            path = self.folder / f"{self.name}--{digest(sorted(runs))[:12]}{SUFFIX}"
            if rank() == 0:
                with atomic_path(path) as temporary:
                    torch.save({"runs": list(runs), **content}, temporary)
                log.info("checkpoint: %s", path.name)
            wait_for_all()  # one that ends before would take the writer with it
            self.last = time.monotonic()
        self.end_if_asked()

    def end_if_asked(self) -> None:
        """Where nothing has to be written.

        Raises:
            Interrupted: the process was asked to end.
        """
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
