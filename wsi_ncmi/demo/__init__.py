"""The embedded default: a cohort of synthetic slides, planned (`cohort`), painted and written."""
