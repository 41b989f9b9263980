"""How far an arm's validation hangs on its learning rate and its epochs."""

import pandas as pd

from wsi_ncmi.evaluation.comparison import ArmKey

ARM = ["aggregator", "objective"]
PLACE = [*ARM, "learning_rate", "epoch"]


def sensitivity_table(curves: pd.DataFrame) -> pd.DataFrame:
    """Mean macro-F1 on validation of every arm, learning rate and epoch.

    The mean is over folds, seeds and whatever else is searched: the best of the others would look
    better the more of them there are.

    Args:
        curves: `PLACE` and macro_f1, a row per model and epoch; epochs count from 0.

    Returns:
        `PLACE`, macro_f1 and how many models it is the mean of.
    """
    grouped = curves.groupby(PLACE, sort=False)["macro_f1"]
    found = grouped.agg(["mean", "count"]).reset_index()
    found = found.rename(columns={"mean": "macro_f1", "count": "models"})
    order = {arm: place for place, arm in enumerate(_arms(curves))}
    place = [order[arm] for arm in zip(found["aggregator"], found["objective"], strict=True)]
    sorted_by = ["place", "learning_rate", "epoch"]
    return found.assign(place=place).sort_values(sorted_by)[[*PLACE, "macro_f1", "models"]]


def rate_table(table: pd.DataFrame) -> pd.DataFrame:
    """Of every arm, its best learning rate and what another one costs.

    Args:
        table: of `sensitivity_table`.

    Returns:
        Per arm: rates (how many were tried), best (rate) and best_value, worst and worst_value,
        all after the last epoch that all rates have; early: the first epoch (from 1) in which the
        best rate is within .01 of its best value.
    """
    rows = []
    for arm in _arms(table):
        own = table[(table[ARM] == list(arm)).all(axis=1)]
        wide = own.pivot(index="learning_rate", columns="epoch", values="macro_f1")
        last = wide.dropna(axis=1)
        if last.empty:
            continue
        end = last.iloc[:, -1]
        curve = wide.loc[end.idxmax()]
        early = int(curve[curve >= curve.max() - 0.01].index[0]) + 1
        rows.append([*arm, len(wide), end.idxmax(), end.max(), end.idxmin(), end.min(), early])
    columns = [*ARM, "rates", "best", "best_value", "worst", "worst_value", "early"]
    return pd.DataFrame(rows, columns=columns)


def _arms(table: pd.DataFrame) -> list[ArmKey]:
    return list(table[ARM].drop_duplicates().itertuples(index=False, name=None))
