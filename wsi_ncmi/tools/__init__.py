"""The commands that people call; the workflow calls those of `stages`."""
