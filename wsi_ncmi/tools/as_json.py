"""What `--json` prints: one document on stdout, whose keys docs/json.md explains."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

VERSIONS = {"plan": 2, "doctor": 1, "verify": 1, "status": 1}
"""Raised where a key goes or changes its meaning; keys may be added."""


def print_json(command: str, content: Mapping[str, Any]) -> None:
    """Print a command's document: its format and version first."""
    head = {"format": f"wsi-ncmi {command}", "version": VERSIONS[command]}
    text = json.dumps(_plain({**head, **content}), indent=2, ensure_ascii=False, allow_nan=False)
    print(text)


def _plain(value: Any) -> Any:
    """JSON knows no NaN and no infinity: what is not known is null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
