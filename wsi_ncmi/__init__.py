"""Whole-slide-imaging pipeline: slides to bags to attention-MIL under NCMI."""

__version__ = "0.1.0"
