"""Fixtures of this folder: see `made_results`."""

from made_results import (  # noqa: F401
    evaluated,
    evaluated_once,
    evaluation,
    fabricate,
    settings,
)
