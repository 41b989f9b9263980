"""Pure functions of the information-theoretic losses, on log-probabilities.

Notation: B samples, C classes, m feature dimensions; p is a sample's distribution over the m
dimensions, q a class's. Every function that takes logs accepts centred ones (the log-ratio to the
uniform distribution, which keeps float32's digits) and normalised ones alike, but not a mixture.

Source: the NCMI paper, arXiv 2601.02543; numerics derived and measured in docs/method.md.
"""

from wsi_ncmi.losses.functional.distributions import (
    centred,
    centred_log_nsf,
    class_means,
    class_sums,
    log_nsf,
    log_ratio,
    unit_vectors,
)
from wsi_ncmi.losses.functional.divergences import (
    kl,
    kl_all_classes,
    kl_own_class,
    pairwise_cross_entropy,
    separation,
)
from wsi_ncmi.losses.functional.labels import one_hot
from wsi_ncmi.losses.functional.ratios import cmi, ncmi
from wsi_ncmi.losses.functional.renyi import (
    aligned_width,
    gram,
    joint_gram,
    label_gram,
    renyi_entropy,
    renyi_mutual_information,
)
from wsi_ncmi.losses.functional.terms import Forms, Terms, ncmi_terms

__all__ = [
    "Forms",
    "Terms",
    "aligned_width",
    "centred",
    "centred_log_nsf",
    "class_means",
    "class_sums",
    "cmi",
    "gram",
    "joint_gram",
    "kl",
    "kl_all_classes",
    "kl_own_class",
    "label_gram",
    "log_nsf",
    "log_ratio",
    "ncmi",
    "ncmi_terms",
    "one_hot",
    "pairwise_cross_entropy",
    "renyi_entropy",
    "renyi_mutual_information",
    "separation",
    "unit_vectors",
]
