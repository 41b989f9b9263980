"""Image data sets: one file each, with `Options` and `build(path, options)`."""

# Modules that are no data sets (see `wsi_ncmi.registry`).
SHARED = frozenset({"interface", "files"})
