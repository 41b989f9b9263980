"""The model card of an exported model, in Markdown (Mitchell et al. 2019, arXiv 1810.03993)."""

from collections.abc import Iterable, Sequence
from typing import Any

from wsi_ncmi.tools.predict.model import Model

COVERAGE = 0.9


def card(model: Model) -> str:
    """What the model is, what it needs, and how well it did."""
    parts = [
        f"# {model.task}: {model.aggregator} under {model.objective}",
        f"{len(model.contents)} models of the cohort `{model.cohort}`, one for each fold and seed, "
        "which predict together: the mean of their calibrated probabilities.",
        "    wsi-ncmi predict --from model.zip --slides SLIDES --out predictions"
        if model.sections
        else "    wsi-ncmi predict --from model.zip --bags BAGS --out predictions",
        "It was trained and tested on one cohort. It is for research: it is no medical device, and "
        "nothing is known of other laboratories, scanners and populations.",
        _table("Classes, with the validation samples behind prediction sets", *_classes(model)),
        _table("The encoder, whose features it needs", ("fact", "value"), model.encoder.items()),
        _table("What a bag must state", ("attribute", "value"), model.bags.items()),
        _table("On validation, means over models", ("metric", "value"), model.validation.items()),
        _measured(model),
        *(f"Note: {note}." for note in model.notes),
        "The weights are in `members/`, in the safetensors format; everything else is in "
        "`model.json`.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _classes(model: Model) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
    found = model.conformal.described(COVERAGE, model.classes)["classes"]
    head = ("class", "validation samples", f"coverage proven, at {COVERAGE:g}")
    rows = [
        (name, f"{one['validation_samples']:g}", f"{one['guaranteed_coverage']:.3f}")
        for name, one in found.items()
    ]
    return head, rows


def _measured(model: Model) -> str:
    if not model.metrics:
        return "It was not evaluated on a test part."
    rows = [
        [row.get(name, "") for name in ("metric", "value", "low", "high")] for row in model.metrics
    ]
    head = ("metric", "value", "low", "high")
    return _table("On the test part, each slide by the models that had not seen it", head, rows)


def _table(title: str, head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    body = [f"| {' | '.join(_cell(cell) for cell in row)} |" for row in rows]
    if not body:
        return ""
    rule = f"|{'---|' * len(head)}"
    return "\n".join([f"{title}:", "", f"| {' | '.join(head)} |", rule, *body])


def _cell(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return " ".join(text.replace("|", "\\|").split())
