"""Networks on images without Snakemake: train, evaluate, embed."""
