"""How parts, metrics and numbers are named and written, and the answer as a sentence."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wsi_ncmi.evaluation import family, metrics, primary

TITLES = {
    "cross_entropy": "cross-entropy",
    "ncmi": "NCMI",
    "ncmi_mixture": "NCMI, several per class",
    "cross_entropy_adversarial": "cross-entropy, adversarial",
    "ncmi_adversarial": "NCMI, adversarial",
    "ncmi_paper": "NCMI as in the paper",
    "ncmi_public_code": "NCMI as in the public code",
    "cross_entropy_ncmi": "CE + NCMI",
    "cmic_dl": "CMIC-DL",
    "mutual_information": "CE + Rényi MI",
    "logit_adjusted": "logit-adjusted CE",
    "supcon": "SupCon",
    "opl": "OPL",
    "poly1": "Poly-1",
    "abmil": "ABMIL",
    "acmil": "ACMIL",
    "aem": "AEM",
    "asmil": "ASMIL",
    "clam_mb": "CLAM-MB",
    "clam_sb": "CLAM-SB",
    "dsmil": "DSMIL",
    "dtfd": "DTFD-MIL",
    "max_pool": "max pooling",
    "mean": "mean + MLP",
    "mean_pool": "mean pooling",
    "transmil": "TransMIL",
    "ilra": "ILRA",
    "rrt": "RRT-MIL",
    metrics.MACRO_F1: "macro-F1",
    metrics.BALANCED_ACCURACY: "balanced accuracy",
    metrics.AUROC: "AUROC",
    metrics.POOLED_AUROC: "AUROC, pooled",
    metrics.NLL: "NLL",
    metrics.BRIER: "Brier score",
    metrics.QUADRATIC_KAPPA: "quadratic kappa",
    metrics.F1: "F1",
}
MINUS = "−"


def title(name: str) -> str:
    """A part's or metric's name as readers know it; labels of one's own stay as they are."""
    return TITLES.get(name, name.replace("_", " "))


def arm_title(aggregator: str, objective: str) -> str:
    return f"{title(aggregator)}, {title(objective)}"


def number(value: float, digits: int = 3) -> str:
    """A number with a true minus sign; a dash where there is none."""
    if not math.isfinite(value):
        return "–"
    rounded = round(value, digits) + 0.0  # −0.0 becomes 0.0
    return f"{rounded:.{digits}f}".replace("-", MINUS)


def signed(value: float, digits: int = 3) -> str:
    """A number that shows its sign, except for zero."""
    text = number(value, digits)
    return f"+{text}" if math.isfinite(value) and round(value, digits) > 0 else text


def interval(low: float, high: float, digits: int = 3) -> str:
    """An interval as `low to high`: a dash between could be read as a minus."""
    return f"{number(low, digits)} to {number(high, digits)}"


def p_value(value: float) -> str:
    return "–" if not math.isfinite(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"


@dataclass(frozen=True)
class Comparison:
    """One row of differences.tsv: an objective against the reference, under one aggregator.

    Attributes:
        p_holm: NaN for a comparison that belongs to no family.
        verdict: see `family.verdict`.
        fixed: difference, low and high of these trained models.
    """

    aggregator: str
    objective: str
    reference: str
    difference: float
    low: float
    high: float
    p_value: float
    p_holm: float
    p_equivalence: float
    detectable: float
    verdict: str
    fixed: tuple[float, float, float]

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "Comparison":
        names = [name for name in cls.__dataclass_fields__ if name != "fixed"]
        fixed = row["fixed_difference"], row["fixed_low"], row["fixed_high"]
        return cls(**{name: row[name] for name in names}, fixed=fixed)


def answer(found: Comparison, rules: Mapping[str, Any], *, judged: bool = True) -> str:
    """What a difference of macro-F1 says, as a sentence: how large, how sure, better or not.

    Args:
        rules: the section `evaluation`: primary, confidence, equivalence_margin.
        judged: False: an arm of it collapsed or was not done, so that "better" means nothing.
    """
    whom = f"against {title(found.reference)} with {title(found.aggregator)}"
    percent = f"{100 * rules['confidence']:g} % interval"
    if found.verdict == family.UNTESTED:
        difference, low, high = found.fixed
        return (
            f"{title(found.objective)} changes macro-F1 by {signed(difference)} {whom} in these "
            f"trained models ({percent} {interval(low, high)}), but nothing is shown of the arms: "
            f"{untested(rules['primary'])}."
        )
    sentence = (
        f"{title(found.objective)} changes macro-F1 by {signed(found.difference)} ({percent} "
        f"{interval(found.low, found.high)}, {_chance(found)}) {whom}"
    )
    return f"{sentence}: {_judgement(found, rules)}." if judged else f"{sentence}."


def _chance(found: Comparison) -> str:
    if math.isfinite(found.p_holm) and found.p_holm != found.p_value:
        return f"p {_equals(found.p_value)}, with Holm's correction {_equals(found.p_holm)}"
    return f"p {_equals(found.p_value)}"


def _equals(value: float) -> str:
    text = p_value(value)
    return text if text.startswith("<") else f"= {text}"


def _judgement(found: Comparison, rules: Mapping[str, Any]) -> str:
    smallest = (
        "the smallest true difference that such data would have shown with 80 % probability is "
        f"{number(found.detectable)}"
    )
    within = f"within {rules['equivalence_margin']:g} of each other"
    if found.verdict in (family.BETTER, family.WORSE):
        small = found.p_equivalence < 1 - rules["confidence"]
        though = f", though the two are surely {within}" if small else ""
        return f"it is {found.verdict}{though}; {smallest}"
    if found.verdict == family.EQUIVALENT:
        return f"the two are equivalent, {within} (p {_equals(found.p_equivalence)})"
    return f"no difference was shown, nor that they are {within}; {smallest}"


def untested(test: str) -> str:
    """Why a primary test gave nothing, and what to do."""
    if test == primary.CORRECTED_T:
        return "a single fold does not vary, so set evaluation.primary to hierarchical_bootstrap"
    return "a single training of each cannot say what another would give, so train more seeds"


def single_answer(
    aggregator: str, objective: str, value: float, bounds: tuple[float, float], confidence: float
) -> str:
    """The answer where there is one objective only, so that nothing is compared."""
    return (
        f"{arm_title(aggregator, objective)} reaches a macro-F1 of {number(value)} "
        f"({100 * confidence:g} % interval {interval(*bounds)}); no second objective was trained, "
        "so nothing is compared."
    )
