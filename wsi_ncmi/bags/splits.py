"""Splits by patient: who trains, who validates, who is tested, and an audit that nobody leaks.

A split is made from the sheet alone: which slides later fail does not move the others.
"""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from wsi_ncmi.bags.training_part import with_few, with_wrong_labels
from wsi_ncmi.cohorts.classes import rows_of
from wsi_ncmi.cohorts.sheet import PARTS, SlideRow, disagreeing
from wsi_ncmi.cohorts.split_file import SplitRow
from wsi_ncmi.config import Protocol, Task
from wsi_ncmi.errors import SplitError
from wsi_ncmi.provenance import digest

REPEAT = "repeat"
OFFICIAL = "split"
COLUMNS = ("fold", "part", "sample_id", "slide_id", "patient_id", "centre", "label")
CANDIDATES = 8
MANY_FOLDS = 20


class Asked(NamedTuple):
    """Into how many parts patients are divided, and the key of the configuration that says so."""

    parts: int
    key: str
    remedy: str


def samples(rows: Iterable[SlideRow], task: Task) -> pd.DataFrame:
    """The task's slides, one row each, with the sample they belong to.

    Raises:
        SplitError: a patient's slides are joined but have several labels or centres.
    """
    kept = rows_of(rows, task)
    frame = pd.DataFrame(
        [(r.slide_id, r.patient_id, r.centre, r.label, r.split) for r in kept],
        columns=["slide_id", "patient_id", "centre", "label", OFFICIAL],
    ).sort_values("slide_id", ignore_index=True)
    frame.insert(0, "sample_id", frame.slide_id if task.sample == "slide" else frame.patient_id)
    if frame.empty:
        raise SplitError(f"no slide has one of the labels {', '.join(task.classes)}")
    for column in ("label", "centre") if task.sample == "patient" else ():
        for patient, found in sorted(disagreeing(kept, column).items()):
            raise SplitError(
                f"patient {patient} has several values of {column} ({', '.join(found)}): with "
                "sample: patient all slides of a patient must agree; use sample: slide"
            )
    return frame


def make_splits(
    rows: Iterable[SlideRow], task: Task, given: Sequence[SplitRow] | None
) -> pd.DataFrame:
    """All folds of a task: columns `COLUMNS`, one row per fold and slide, audited.

    Of several repeats there is a column `repeat` too, and the folds of one go on counting after
    those of the one before it.

    Args:
        rows: the slide sheet.
        task: classes, sample and protocol.
        given: for `kind: file`, its rows.

    Raises:
        SplitError: the split cannot be made, or leaks.
    """
    frame = samples(rows, task)
    protocol = task.protocol
    official = protocol.kind == "official"
    if official and not frame[OFFICIAL].isin(PARTS).all():
        raise SplitError(f"official: column split of the sheet must be one of {', '.join(PARTS)}")
    if official and (frame[OFFICIAL] == "val").any():
        splits = frame.assign(part=frame[OFFICIAL], fold=0, repeat=0)
    elif given is not None:
        splits = _from_file(frame, given)
    else:
        splits = pd.concat(_repeats(frame, protocol), ignore_index=True)
    if protocol.training_patients is not None:
        splits = with_few(splits, protocol.training_patients, protocol.seed)
    if protocol.label_noise:
        splits = with_wrong_labels(splits, protocol.label_noise, task.classes, protocol.seed)
    audit(splits, task.classes)
    columns = [*([REPEAT] if protocol.repeats > 1 else []), *COLUMNS]
    order = ["fold", "part", "sample_id", "slide_id"]
    return splits[columns].sort_values(order, ignore_index=True)


def _repeats(frame: pd.DataFrame, protocol: Protocol) -> Iterator[pd.DataFrame]:
    """The partition, and as many others as it is repeated; the first one is that of no repeats."""
    for repeat in range(protocol.repeats):
        own = protocol.model_copy(update={"seed": _seed_of(protocol, repeat)})
        for fold, rows in enumerate(_with_validation(frame, own)):
            yield rows.assign(fold=repeat * protocol.folds + fold, repeat=repeat)


def _seed_of(protocol: Protocol, repeat: int) -> int:
    """Of a repeat's partition, 28 bits: neighbouring seeds share no repeat."""
    return int(digest([protocol.seed, REPEAT, repeat])[:7], 16) if repeat else protocol.seed


def _test_parts(frame: pd.DataFrame, protocol: Protocol) -> Iterator[NDArray[np.bool_]]:
    if protocol.kind == "kfold":
        asked = Asked(protocol.folds, f"protocol.folds: {protocol.folds}", "lower it")
        assignment = _balanced_folds(frame, asked, protocol.seed)
        yield from (assignment == fold for fold in range(protocol.folds))
        return
    if protocol.kind == "official":
        yield (frame[OFFICIAL] == "test").to_numpy()
        return
    centres = sorted(frame.centre.unique())
    if protocol.kind == "leave_one_centre_out":
        if len(centres) < 2:
            raise SplitError(f"leave_one_centre_out needs several centres, found {centres}")
        yield from ((frame.centre == centre).to_numpy() for centre in centres)
        return
    unknown = sorted(set(protocol.test_centres) - set(centres))
    if unknown:
        raise SplitError(f"test_centres {unknown} are not in the sheet, which has {centres}")
    test = frame.centre.isin(protocol.test_centres).to_numpy()
    if test.all():
        raise SplitError("test_centres names every centre: nothing is left to train on")
    yield test


def _with_validation(frame: pd.DataFrame, protocol: Protocol) -> Iterator[pd.DataFrame]:
    """Every fold, in its order, with its parts: a group of the training patients validates."""
    fraction = protocol.validation_fraction
    parts = max(2, round(1 / fraction))
    asked = Asked(parts, f"protocol.validation_fraction: {fraction}, so {parts} parts", "raise it")
    tests = list(_test_parts(frame, protocol))
    # Of a hundred small centres each leaves nearly all patients to train on: grouping them anew for
    # each takes minutes, and some groupings of all patients, in turn, are as good.
    shared = [
        _stratified(frame, asked, protocol.seed + 1000 + turn)
        for turn in range(CANDIDATES if len(tests) > MANY_FOLDS else 0)
    ]
    for fold, test in enumerate(tests):
        training = frame[~test]
        if shared:
            assignment = shared[fold % CANDIDATES][~test]
        else:
            assignment = _balanced_folds(training, asked, protocol.seed + 1000 + fold)
        part = np.where(test, "test", "train").astype(object)
        chosen = _most_typical(training, assignment, parts)
        part[np.flatnonzero(~test)[assignment == chosen]] = "val"
        yield frame.assign(part=part)


def _most_typical(frame: pd.DataFrame, assignment: NDArray[np.int64], folds: int) -> int:
    # Only one of the parts validates: the one whose labels and centres are most like all.
    deviation = sum(
        _deviation(frame[column], assignment, folds).mean(0) for column in ("label", "centre")
    )
    return int(np.argmin(deviation))


def _balanced_folds(frame: pd.DataFrame, asked: Asked, seed: int) -> NDArray[np.int64]:
    """Fold of each row, patients whole: the best balanced of several stratified shuffles.

    scikit-learn stratifies by one label; which of its candidates also spreads the centres is
    chosen here.
    """
    best, best_score = None, np.inf
    for attempt in range(CANDIDATES):
        assignment = _stratified(frame, asked, seed * CANDIDATES + attempt)
        score = _imbalance(frame.label, assignment, asked.parts)
        score += 0.5 * _imbalance(frame.centre, assignment, asked.parts)
        if score < best_score:
            best, best_score = assignment, score
    assert best is not None
    return best


def _stratified(frame: pd.DataFrame, asked: Asked, seed: int) -> NDArray[np.int64]:
    patients = frame.patient_id.nunique()
    if patients < asked.parts:
        raise SplitError(
            f"{asked.key}: needs as many patients, found {patients} here: {asked.remedy}"
        )
    splitter = StratifiedGroupKFold(asked.parts, shuffle=True, random_state=seed)
    assignment = np.empty(len(frame), np.int64)
    with warnings.catch_warnings():
        # A class with fewer samples than folds is absent from some; the audit judges that.
        warnings.simplefilter("ignore", UserWarning)
        try:
            parts = list(splitter.split(frame, frame.label, frame.patient_id))
        except ValueError as error:
            most = frame.label.value_counts().max()
            raise SplitError(
                f"{asked.key}: parts stratified by label cannot be made: no class has more than "
                f"{most} sample(s) here: {asked.remedy}"
            ) from error
    for fold, (_, test) in enumerate(parts):
        assignment[test] = fold
    return assignment


def _imbalance(column: pd.Series, assignment: NDArray[np.int64], folds: int) -> float:
    return float(_deviation(column, assignment, folds).mean())


def _deviation(column: pd.Series, assignment: NDArray[np.int64], folds: int) -> NDArray[np.float64]:
    """How far each value's count in each fold is from its share: [values, folds]."""
    table = pd.crosstab(column, assignment).reindex(columns=range(folds), fill_value=0).to_numpy()
    wanted = table.sum(1, keepdims=True) / folds
    return np.abs(table - wanted) / np.maximum(wanted, 1)


def _from_file(frame: pd.DataFrame, given: Sequence[SplitRow]) -> pd.DataFrame:
    table = pd.DataFrame(given, columns=SplitRow._fields).drop(columns="line")
    return table.merge(frame, on="slide_id", validate="many_to_one")


def audit(splits: pd.DataFrame, classes: Sequence[str]) -> None:
    """Refuse a split that leaks or that cannot be trained on.

    Raises:
        SplitError: a patient or slide stands in two parts of a fold, a part is empty, or the
            training part lacks a class.
    """
    for fold, rows in splits.groupby("fold"):
        for column in ("patient_id", "slide_id"):
            stand = rows[[column, "part"]].drop_duplicates()
            leaking = sorted(set(stand.loc[stand.duplicated(column), column]))
            if leaking:
                where = " and ".join(sorted(stand.part[stand[column] == leaking[0]]))
                name = column.removesuffix("_id")
                raise SplitError(
                    f"fold {fold}: {len(leaking)} {name}(s) stand in two parts, "
                    f"such as {leaking[0]} in {where}"
                )
        if rows.duplicated("slide_id").any():
            twice = rows.slide_id[rows.duplicated("slide_id")].iloc[0]
            raise SplitError(f"fold {fold}: slide {twice} stands twice")
        empty = [part for part in PARTS if part not in set(rows.part)]
        if empty:
            raise SplitError(f"fold {fold}: no samples in {', '.join(empty)}")
        absent = sorted(set(classes) - set(rows[rows.part == "train"].label))
        if absent:
            raise SplitError(f"fold {fold}: the training part has no {', '.join(absent)}")
