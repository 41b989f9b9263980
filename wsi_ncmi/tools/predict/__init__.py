"""Commands `predict` and `export`: what was trained, used on new slides."""
