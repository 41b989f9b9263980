"""Logging of commands: what needs attention to the terminal, everything to the job's own file."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from pathlib import Path

FORM = "%(asctime)s %(levelname)s %(message)s"
_subject: ContextVar[str] = ContextVar("subject", default="")


def begin(file: Path | None) -> None:
    """Log to the terminal; with a file, which begins anew, only warnings go to the terminal."""
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("")
    _log_to(file)


def joining() -> Callable[[], None]:
    """What another process calls to log to the job's file as this one does; it can be pickled."""
    handlers = logging.getLogger().handlers
    files = [one.baseFilename for one in handlers if isinstance(one, logging.FileHandler)]
    return partial(_log_to, Path(files[0])) if files else _as_it_is


def _as_it_is() -> None:
    """Nothing: there is no file."""


def _log_to(file: Path | None) -> None:
    handlers: list[logging.Handler] = [logging.StreamHandler()]
    if file is not None:
        handlers[0].setLevel(logging.WARNING)
        # Appending, so that lines of several processes stand one behind the other.
        handlers.append(logging.FileHandler(file, mode="a"))
    for handler in handlers:
        handler.addFilter(_name_subject)
    logging.basicConfig(level=logging.INFO, format=FORM, handlers=handlers, force=True)


@contextmanager
def about(subject: str) -> Iterator[None]:
    """Lines from within name it, those of libraries too, which know nothing of a slide.

    Args:
        subject: such as `slide s01`. Threads that begin within do not know it.
    """
    before = _subject.set(subject)
    try:
        yield
    finally:
        _subject.reset(before)


def _name_subject(record: logging.LogRecord) -> bool:
    subject = _subject.get()
    if subject and subject not in record.getMessage():
        record.msg, record.args = f"{subject}: {record.getMessage()}", ()
    return True
