"""Image data sets: one file each, with `Options` and `build(path, options)`."""
