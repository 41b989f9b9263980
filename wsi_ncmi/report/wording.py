"""How parts, metrics and numbers are named and written, and the answer as a sentence."""

import math
from dataclasses import dataclass

from wsi_ncmi.evaluation import metrics

TITLES = {
    "cross_entropy": "cross-entropy",
    "ncmi": "NCMI",
    "ncmi_mixture": "NCMI, several per class",
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
    """One row of differences.tsv: an objective against the reference, under one aggregator."""

    aggregator: str
    objective: str
    reference: str
    difference: float
    low: float
    high: float
    detectable: float

    @property
    def verdict(self) -> str:
        """`higher`, `lower`, or `none shown` where the interval holds zero."""
        if self.low > 0:
            return "higher"
        return "lower" if self.high < 0 else "none shown"


def answer(found: Comparison, confidence: float) -> str:
    """The primary paired difference of macro-F1 as one sentence."""
    percent = f"{100 * confidence:g} %"
    sentence = (
        f"{title(found.objective)} changes macro-F1 by {signed(found.difference)} ({percent} "
        f"interval {interval(found.low, found.high)}) against {title(found.reference)} with "
        f"{title(found.aggregator)}"
    )
    smallest = (
        f"the smallest true difference that such data would have shown with 80 % probability is "
        f"{number(found.detectable)}"
    )
    if found.verdict == "none shown":
        return f"{sentence}: no difference was shown; {smallest}."
    better = "better" if found.verdict == "higher" else "worse"
    return f"{sentence}: it is {better} on these data; {smallest}."


def single_answer(
    aggregator: str, objective: str, value: float, bounds: tuple[float, float], confidence: float
) -> str:
    """The answer where there is one objective only, so that nothing is compared."""
    return (
        f"{arm_title(aggregator, objective)} reaches a macro-F1 of {number(value)} "
        f"({100 * confidence:g} % interval {interval(*bounds)}); no second objective was trained, "
        "so nothing is compared."
    )
