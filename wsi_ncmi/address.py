"""What users write for a path: addresses of other machines, `~` and `$NAME`."""

import os
import re

REMOTE = ("s3://", "https://", "http://", "gs://", "memory://")
UNSET = re.compile(r"\$(?:\w+|\{[^}]*\})", re.ASCII)


def is_remote(path: str) -> bool:
    """Whether a path is an address that is not on a local file system."""
    return path.startswith(REMOTE)


def expanded(path: str) -> str:
    """A path with `~`, `$NAME` and `${NAME}` replaced, as a shell does.

    What the environment does not know stays: a dollar sign may be part of a file's name.
    """
    path = os.path.expandvars(path)
    return path if is_remote(path) else os.path.expanduser(path)


def not_expanded(path: str) -> str:
    """Why a path may not be what was meant, for the text of an error; "" where nothing says so."""
    names = UNSET.findall(path)
    if names:
        return f"{', '.join(names)} is not set in the environment"
    user = path.split("/")[0]
    return f"{user}: no such user" if user.startswith("~") else ""


def no_such(path: str, what: str = "file or folder") -> str:
    """The text of an error about a path that does not exist."""
    reason = not_expanded(path)
    return f"{path}: no such {what}" + (f" ({reason})" if reason else "")
