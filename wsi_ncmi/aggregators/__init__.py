"""Aggregators: from a bag of instance features to one embedding. One file each."""

# Modules that are no aggregators (see `wsi_ncmi.registry`).
SHARED = frozenset(
    [
        "attention",
        "bags",
        "clam",
        "dropout",
        "fused",
        "gated",
        "interface",
        "layers",
        "nystrom",
        "segments",
        "tokens",
    ]
)
