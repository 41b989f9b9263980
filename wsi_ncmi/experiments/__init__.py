"""What an experiment makes of the trained arms of a configuration: one file each, `Options` and
`build(options)`, which gives an `interface.Experiment`.

Its trainings are ordinary arms and tasks; an experiment adds tables, figures and sentences.
Importing this package does not import torch.
"""

# Modules that are no experiments (see `wsi_ncmi.registry`).
SHARED: frozenset[str] = frozenset(
    {
        "arms",
        "classifiers",
        "curves",
        "embedded",
        "epochs",
        "finer",
        "information_curves",
        "information_plots",
        "interface",
        "pretrained",
        "results",
        "robust",
        "simplex",
        "stopping_rules",
    }
)
