"""Every arm beside its reference: what both scored, and how they differ.

A model that failed scores nothing. A difference is then over the folds and seeds in which both arms
have a model, and so is conditional on that: a `Pairing` counts what is missing.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from wsi_ncmi.evaluation.bootstrap import Estimate, bootstrap
from wsi_ncmi.evaluation.samples import Arm, ArmKey, Cells, Samples


@dataclass(frozen=True, eq=False)
class Pairing:
    """An arm beside its reference under the same aggregator.

    Attributes:
        arm, reference: their estimates over the folds and seeds in which both have a model; empty
            where there are none.
        scored: what both models of these scored, of the arm and of the reference; None where there
            are none.
        runs: how many folds and seeds these are.
        failed, reference_failed: models of each that failed.
    """

    arm: Mapping[str, Estimate]
    reference: Mapping[str, Estimate]
    scored: tuple[Arm, Arm] | None
    runs: int
    failed: int
    reference_failed: int


def compare(
    samples: Samples,
    arms: Mapping[ArmKey, Arm],
    cells: Mapping[ArmKey, Cells],
    reference: str,
    resamples: int,
    seed: int,
    *,
    orders: int | None = None,
) -> tuple[dict[ArmKey, dict[str, Estimate]], dict[ArmKey, Pairing]]:
    """Estimates of every arm with a model, and every arm beside its reference; see `bootstrap`.

    Args:
        arms: those with a model that was trained.
        cells: of every arm, those without a model as well.
        reference: the objective that the others are compared with.
        seed, orders: see `bootstrap`.
    """
    keys = {key: (key[0], reference) for key in cells}
    pairs = {k: other for k, other in keys.items() if k != other and other in cells}
    shared: dict[tuple[ArmKey, ArmKey], Arm] = {}
    for key, other in pairs.items():
        if key in arms and other in arms:
            common = arms[key].scored & arms[other].scored
            shared |= {(key, other): arms[key].where(common)}
            shared |= {(other, key): arms[other].where(common)}
    partial = {k: a for k, a in shared.items() if a.scored.any() and _lacks(a, arms[k[0]])}
    found = bootstrap(samples, {**arms, **partial}, resamples, seed, orders=orders)

    def side(own: ArmKey, other: ArmKey) -> Mapping[str, Estimate]:
        pair = own, other
        if pair not in shared or not shared[pair].scored.any():
            return {}
        return found[pair] if pair in partial else found[own]

    def both(own: ArmKey, other: ArmKey) -> tuple[Arm, Arm] | None:
        return (shared[own, other], shared[other, own]) if side(own, other) else None

    pairings = {
        key: Pairing(
            side(key, other),
            side(other, key),
            both(key, other),
            sum(cells[key][cell] and cells[other].get(cell, False) for cell in cells[key]),
            *(len(cells[k]) - sum(cells[k].values()) for k in (key, other)),
        )
        for key, other in pairs.items()
    }
    return {key: found[key] for key in arms}, pairings


def _lacks(arm: Arm, whole: Arm) -> bool:
    return bool((arm.scored != whole.scored).any())
