"""Fixtures of this folder: see `made_bags` and `made_results`."""

from made_bags import (  # noqa: F401
    cache,
    cache_folder,
    classes,
    folder,
    make_cache,
    make_run,
    splits,
)
from made_results import (  # noqa: F401
    evaluated,
    evaluated_once,
    evaluation,
    fabricate,
    settings,
)
