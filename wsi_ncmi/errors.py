"""The errors that a user can meet: their text says what is wrong, where, and what to do."""

from collections.abc import Sequence


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
