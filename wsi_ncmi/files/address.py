"""Paths that are addresses of another machine."""

REMOTE = ("s3://", "https://", "http://", "gs://", "memory://")


def is_remote(path: str) -> bool:
    """Whether a path is an address that is not on a local file system."""
    return path.startswith(REMOTE)
