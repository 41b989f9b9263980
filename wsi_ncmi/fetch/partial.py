"""A file that comes in parts: what is there already survives a kill."""

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from wsi_ncmi.fetch.places import hidden_of
from wsi_ncmi.fetch.source import Facts
from wsi_ncmi.files.atomic import writing


class Part(NamedTuple):
    """A stretch of a file: its number, first byte and length."""

    number: int
    start: int
    length: int


class PartialFile:
    """`.<name>.fetching`, as long as the whole, with a journal of the parts that are written.

    The journal's first line says what is fetched; each further one is the number of a part, noted
    after its bytes. A part whose line was cut off by a kill is fetched again. Another object, size
    of parts or tag starts from nothing.
    """

    def __init__(self, path: Path, facts: Facts, part_bytes: int) -> None:
        self.path, self.facts, self.part_bytes = path, facts, part_bytes
        self.data, self.journal = hidden_of(path)
        self._head = json.dumps({"size": facts.size, "tag": facts.tag, "part": part_bytes})

    def __enter__(self) -> Self:
        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.written = self._resumed()
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            self._data = os.open(self.data, flags, 0o666)
            os.ftruncate(self._data, self.facts.size)
            self._journal: Any = self.journal.open("a" if self.written else "w")
            if not self.written:
                self._note(self._head)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._data)
        self._journal.close()

    def _resumed(self) -> set[int]:
        """Numbers of the parts that an earlier fetch of the same object has written."""
        try:
            head, *lines = self.journal.read_text().split("\n")
        except (OSError, UnicodeDecodeError):
            return set()
        if head != self._head or not self.data.is_file():
            return set()
        if self.data.stat().st_size != self.facts.size:
            return set()
        # What follows the last line break may be half a number.
        return {int(line) for line in lines[:-1] if line.isdecimal()}

    def _note(self, text: str) -> None:
        self._journal.write(f"{text}\n")
        self._journal.flush()

    @property
    def left(self) -> Iterator[Part]:
        """Parts that are still to be fetched."""
        for number, start in enumerate(range(0, self.facts.size, self.part_bytes)):
            if number not in self.written:
                yield Part(number, start, min(self.part_bytes, self.facts.size - start))

    def write(self, part: Part, content: memoryview) -> None:
        """Write a part, then note it; OutputError if the disk is full."""
        with writing(self.path):
            at = part.start
            while content:
                count = os.pwrite(self._data, content, at)
                content, at = content[count:], at + count
            self._note(str(part.number))
            self.written.add(part.number)

    def finish(self) -> None:
        """Give the file its name; all parts must be there."""
        with writing(self.path):
            os.fsync(self._data)
            self.data.replace(self.path)
            self.journal.unlink()

    def drop(self) -> None:
        """Forget everything: the bytes are wrong."""
        for path in (self.journal, self.data):
            with suppress(FileNotFoundError):
                path.unlink()
