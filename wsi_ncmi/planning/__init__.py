"""What the Snakefile asks for in every job. Light: no torch, pandas or numpy."""
