"""What users write for a path: addresses of other machines, `~`, `$NAME`, files of a package."""

import os
import re
from importlib.util import find_spec

REMOTE = ("s3://", "https://", "http://", "gs://", "memory://")
PACKAGE = "package:"
VIEWER_PORT = 8484
"""Of this machine's loopback, where `wsi-ncmi view` answers and the report's links lead."""
UNSET = re.compile(r"\$(?:\w+|\{[^}]*\})", re.ASCII)


def is_remote(path: str) -> bool:
    """Whether a path is an address that is not on a local file system."""
    return path.startswith(REMOTE)


def expanded(path: str) -> str:
    """A path with `~`, `$NAME` and `${NAME}` replaced, as a shell does.

    `package:NAME/...` is a file or folder of an installed Python package, which is not imported.
    What the environment does not know stays: a dollar sign may be part of a file's name.
    """
    path = os.path.expandvars(path)
    if path.startswith(PACKAGE):
        return _of_package(path)
    return path if is_remote(path) else os.path.expanduser(path)


def _of_package(path: str) -> str:
    """Where it is; a package that is not installed stays as it is written."""
    name, _, rest = path.removeprefix(PACKAGE).partition("/")
    spec = find_spec(name) if name.isidentifier() else None
    places = spec.submodule_search_locations if spec else None
    return os.path.join(places[0], rest) if places else path


def not_expanded(path: str) -> str:
    """Why a path may not be what was meant, for the text of an error; "" where nothing says so."""
    if path.startswith(PACKAGE):
        name = path.removeprefix(PACKAGE).partition("/")[0]
        return f"no Python package {name!r} is installed here"
    names = UNSET.findall(path)
    if names:
        return f"{', '.join(names)} is not set in the environment"
    user = path.split("/")[0]
    return f"{user}: no such user" if user.startswith("~") else ""


def no_such(path: str, what: str = "file or folder") -> str:
    """The text of an error about a path that does not exist."""
    reason = not_expanded(path)
    return f"{path}: no such {what}" + (f" ({reason})" if reason else "")
