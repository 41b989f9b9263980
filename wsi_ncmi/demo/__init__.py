"""The embedded default: a cohort of synthetic slides, designed (`cohort`), painted and written."""
