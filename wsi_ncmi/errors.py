"""The errors that a user can meet: their text says what is wrong, where, and what to do."""

from collections.abc import Sequence
from typing import Self


def some(items: Sequence[str], most: int = 3) -> str:
    """The first of several items, for a text, and how many more there are."""
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(items[:most]) + more


class UserError(Exception):
    """Something that the user can mend; the command line prints its text without a traceback."""


class ConfigError(UserError):
    """Everything wrong with a configuration and its sheet, reported together."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        lines = "\n".join(f"  - {problem}" for problem in self.problems)
        super().__init__(f"{len(self.problems)} problem(s), fix them and rerun:\n{lines}")


class TableError(UserError):
    """Everything wrong with the form of a table that the user made."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(self.problems))


class SlideError(UserError):
    """One slide cannot be used; its text becomes the reason in the manifest and in the report."""


class UnreachableError(SlideError):
    """A slide, or a file that its result needs, cannot be seen now: it is absent, locked, refused,
    or the way to it fails. Nothing is said of its bytes: what is finished stands, and the next run
    tries again."""


class AbsentError(UnreachableError):
    """There is no such file."""


class TimedOutError(UnreachableError):
    """Reading took longer than it may, and may still go on in a thread that is left behind."""

    @classmethod
    def after(cls, seconds: float, path: str) -> Self:
        return cls(
            f"{path}: not read within {seconds / 60:g} minutes (slide_minutes): it hangs the "
            "library that reads it, or the way to it is slow"
        )


class BagError(UserError):
    """A feature bag is damaged, or is not what its digest says."""


class UnreachableBagError(BagError):
    """A feature bag cannot be read at this moment, which says nothing about what it holds."""


class OutputError(UserError):
    """A result cannot be written: the disk is full, or the folder is not ours to write to."""


class SplitError(UserError):
    """A split would leak, or leaves a part without what it needs."""


class PartError(UserError):
    """An encoder, aggregator, objective or dataset is unknown, or its options do not fit."""
