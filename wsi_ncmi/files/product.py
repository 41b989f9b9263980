"""Whether a result that is there is the one that is asked for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from wsi_ncmi.files.reach import reaching


@dataclass(frozen=True)
class Product:
    """A result on disk beside the digest of all that decides it.

    Every step asks here whether its result is current: tiles, bags, runs and the stamps of the
    workflow. A result is current if its record states the digest that is asked for and all other
    files are there.

    Attributes:
        asked: the digest of all that decides the result; "" where that cannot be known, because the
            source cannot be read: then nothing that is there is current.
        record: the file that states the digest. It is written last.
        stated: reads the record -> its digest, or "" for one that is damaged, unfinished, of
            another format, or that says that there is no result.
        beside: the other files of the result.
    """

    asked: str
    record: Path
    stated: Callable[[Path], str]
    beside: Sequence[Path] = ()

    @property
    def recorded(self) -> str:
        """The digest that the record states; "" where there is no whole result.

        Raises:
            UnreachableError: that cannot be seen now.
        """
        for path in (self.record, *self.beside):
            with reaching(str(path)):
                if not path.is_file():
                    return ""
        return self.stated(self.record)

    @property
    def is_current(self) -> bool:
        """Whether the result that is there is the one that is asked for."""
        return bool(self.asked) and self.recorded == self.asked
