"""What a slide's bytes must be: MD5 sums of a list, SHA-256 of the sheet."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from wsi_ncmi.errors import ConfigError

LINE = re.compile(r"^([0-9a-fA-F]{32}) [ *](.+)$")


@dataclass(frozen=True)
class Expected:
    """The checksum of a file; `kind` is md5, sha256, or "" where none is known."""

    kind: str = ""
    value: str = ""
    source: str = ""

    def problem(self, path: Path) -> str:
        """Why a file is not what it must be, or nothing; reads all of it if a sum is known."""
        if not self.kind:
            return ""
        with path.open("rb") as file:
            found = hashlib.file_digest(file, self.kind).hexdigest()
        if found == self.value.lower():
            return ""
        return f"{self.kind} is {found}, {self.source} says {self.value.lower()}"


def read_md5(path: Path) -> dict[str, str]:
    """Path in a list as `md5sum` writes it -> MD5.

    Raises:
        ConfigError: there is no such file, or a line is something else.
    """
    if not path.is_file():
        raise ConfigError([f"slides.fetch.checksums: {path}: no such file"])
    found, problems = {}, []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        match = LINE.match(line)
        if match:
            found[match[2].removeprefix("./")] = match[1]
        elif line.strip():
            problems.append(f"{path} line {number}: found {line[:60]!r}, expected `<md5>  <path>`")
    if problems:
        raise ConfigError(problems[:5])
    return found


def expected_of(address: str, sha256: str, md5: Mapping[str, str], source: str) -> Expected:
    """The checksum of a slide: the sheet's, or the list's by the longest end of its address."""
    if sha256:
        return Expected("sha256", sha256, "the sheet")
    parts = address.split("/")
    for start in range(len(parts)):
        name = "/".join(parts[start:])
        if name in md5:
            return Expected("md5", md5[name], source)
    return Expected()
