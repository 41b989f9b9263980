"""Slides from where they are published onto the local disk: whole, checked, and never too many."""
