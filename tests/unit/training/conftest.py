"""Fixtures of this folder: see `made_bags`."""

from made_bags import (  # noqa: F401
    cache,
    cache_folder,
    classes,
    folder,
    make_cache,
    make_run,
    splits,
)
