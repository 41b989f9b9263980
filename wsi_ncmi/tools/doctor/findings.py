"""What was looked at, and what to do about it."""

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warn", "missing"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        status: missing also means that it is there but does not work.
        needed: whether nothing can be done without it; the others are extras.
        remedy: what to do, where there is something to do.
    """

    area: str
    name: str
    status: Status
    detail: str
    remedy: str = ""
    needed: bool = False
