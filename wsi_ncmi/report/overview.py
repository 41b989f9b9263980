"""A benchmark in the report, over all of its tasks: which arm is best, by how much, how sure, for
which class, at what cost; and what could not be trained.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

import pandas as pd

from wsi_ncmi.evaluation import family, metrics
from wsi_ncmi.evaluation.ranks import ranks as ranked
from wsi_ncmi.evaluation.sensitivity import rate_table
from wsi_ncmi.report.across import across_blocks
from wsi_ncmi.report.page import Block, Heading, Section, Table, Text
from wsi_ncmi.report.task import Evaluated
from wsi_ncmi.report.wording import interval, number, p_value, signed, title

BLOCK = ["task", "aggregator"]
ARM = ["aggregator", "objective"]
VERDICTS = (family.BETTER, family.WORSE, family.EQUIVALENT, family.UNDECIDED, family.UNTESTED)
COST = (
    "What an arm costs: seconds of a training, which are its share of the pass in which the models "
    "of a seed train together, so that arms of one pass share the costs of the dearest; settings "
    "that a nested search tried for every model; and hours of all of them."
)
BY_CLASS = (
    "Difference of F1 from the reference by class: mean over aggregators, for every task. The arm "
    "that gains most and the one that loses most may do so in a class with few samples."
)


def overview_section(tasks: Sequence[Evaluated]) -> Section:
    """Everything that is said of all tasks together.

    Args:
        tasks: of one benchmark: they have the same objectives and the same reference.
    """
    reference = str(tasks[0].summary["reference"])
    values, level = _joined(tasks, "metrics"), 1 - tasks[0].confidence
    differences = _joined(tasks, "differences")
    differences = differences[differences["metric"] == metrics.MACRO_F1]
    blocks: list[Block] = [
        *(Text(text, "lead") for text in sentences(values, differences, reference, level)),
        rank_table(values),
        *_difference_blocks(differences),
        *across_blocks(tasks),
        *_class_blocks(_joined(tasks, "per_class"), reference),
        *_cost_blocks(tasks),
        *_rate_blocks(tasks),
        *_trouble_blocks(tasks),
    ]
    return Section("All tasks together", "overview", blocks)


def _joined(tasks: Sequence[Evaluated], name: str) -> pd.DataFrame:
    return pd.concat([task.table(name).assign(task=task.name) for task in tasks])


def macro_f1_of(values: pd.DataFrame) -> pd.DataFrame:
    """Macro-F1: a row per task and aggregator, a column per objective."""
    own = values[values["metric"] == metrics.MACRO_F1]
    order = list(dict.fromkeys(own["objective"]))
    return own.pivot(index=BLOCK, columns="objective", values="value")[order]


def sentences(
    values: pd.DataFrame, differences: pd.DataFrame, reference: str, level: float
) -> Iterator[str]:
    """Which arm is best, and what each does against the reference; at a level of significance."""
    wide = macro_f1_of(values).dropna()
    if wide.shape[1] > 1 and len(wide):
        ranks = wide.rank(axis=1, ascending=False).mean().sort_values(kind="stable")
        best = ranks.index[0]
        first = int((wide.idxmax(axis=1) == best).sum())
        yield (
            f"Over {_blocks(wide)}, {title(best)} has the best mean rank of macro-F1, "
            f"{ranks.iloc[0]:.2f} of {len(ranks)} arms, and the highest value in {first}; its mean "
            f"macro-F1 is {number(wide[best].mean())}.{_distance(wide, level)}"
        )
    for objective, own in differences.groupby("objective", sort=False):
        tested = own.dropna(subset=["difference"])
        if tested.empty:
            yield f"{title(str(objective))} could nowhere be compared with {title(reference)}."
            continue
        counts = Counter(tested["verdict"])
        found = ", ".join(f"{name} in {counts[name]}" for name in VERDICTS if counts[name])
        change = tested["difference"]
        yield (
            f"{title(str(objective))} changes macro-F1 by {signed(change.mean())} on average "
            f"against {title(reference)} ({signed(change.min())} to {signed(change.max())}): "
            f"of {len(tested)} comparison(s), {found}. The smallest true difference that they "
            f"would have shown is {number(tested['detectable'].median())} at the median."
        )


def _distance(wide: pd.DataFrame, level: float) -> str:
    """What Friedman's test and Nemenyi's critical difference say of the ranks, if there are any."""
    found = ranked(wide, level)
    if found is None:
        return ""
    return (
        f" That all arms rank alike has p {p_value(found.p_value)} (Friedman), and mean ranks that "
        f"are {number(found.distance, 2)} apart differ (Nemenyi)."
    )


def _blocks(wide: pd.DataFrame) -> str:
    tasks, aggregators = (wide.index.get_level_values(name).nunique() for name in BLOCK)
    return f"{tasks} task(s) and {aggregators} aggregator(s)"


def rank_table(values: pd.DataFrame) -> Table:
    """Macro-F1 of every objective in every task and aggregator, and its mean rank below."""
    wide = macro_f1_of(values)
    body = [
        [str(task), title(aggregator), *map(number, row)]
        for (task, aggregator), row in zip(wide.index, wide.to_numpy(), strict=True)
    ]
    ranks = wide.dropna().rank(axis=1, ascending=False).mean()
    body.append(["mean", "", *map(number, wide.mean())])
    body.append(["mean rank", "", *(number(rank, 2) for rank in ranks)])
    caption = (
        "Which is best: macro-F1 on the test part, and the mean rank over tasks and aggregators in "
        "which all arms have a value (1: the best)."
    )
    return Table(caption, ["task", "aggregator", *map(title, wide)], body, 2)


def _difference_blocks(differences: pd.DataFrame) -> list[Block]:
    tested = differences.dropna(subset=["difference"])
    if tested.empty:
        return []
    body = [
        [
            row["task"],
            title(row["aggregator"]),
            title(row["objective"]),
            row["verdict"],
            signed(row["difference"]),
            interval(row["low"], row["high"]),
            p_value(row["p_value"]),
            p_value(row["p_holm"]),
            number(row["detectable"]),
        ]
        for _, row in tested.iterrows()
    ]
    header = ["task", "aggregator", "objective", "against the reference", "difference", "interval"]
    caption = (
        "Macro-F1 of every objective minus that of the reference under "
        "the same aggregator, by the primary test; p by Holm within the family of its task; and "
        "the smallest difference that the data would have shown."
    )
    return [
        Heading("By how much, and how sure"),
        Table(caption, [*header, "p", "p, Holm", "detectable"], body, 4),
    ]


def class_differences(table: pd.DataFrame, reference: str) -> pd.DataFrame:
    """F1 minus the reference's: a row per task and class, a column per other objective."""
    own = table[table["metric"] == metrics.F1]
    wide = own.pivot_table(index=["task", "class"], columns="objective", values="value", sort=False)
    others = [name for name in dict.fromkeys(own["objective"]) if name != reference]
    return wide[others].sub(wide[reference], axis=0)


def _class_blocks(table: pd.DataFrame, reference: str) -> list[Block]:
    if reference not in set(table["objective"]) or table["objective"].nunique() < 2:
        return []
    found = class_differences(table, reference)
    support = table.groupby(["task", "class"])["samples"].first()
    body = [
        [*map(str, key), f"{support[key]:.0f}", *map(signed, row)]
        for key, row in zip(found.index, found.to_numpy(), strict=True)
    ]
    flat = found.stack().dropna()
    said: list[Block] = []
    if len(flat):
        said = [Text(f"{_extreme(flat, 'gain')} {_extreme(-flat, 'loss')}")]
    header = ["task", "class", "samples", *map(title, found)]
    return [Heading("For which class"), *said, Table(BY_CLASS, header, body, 2)]


def _extreme(flat: pd.Series, name: str) -> str:
    """The largest of some changes of F1, by task, class and objective."""
    (task, label, objective), value = flat.idxmax(), flat.max()
    if value <= 0:
        return f"No arm has a {name} in any class."
    return (
        f"The largest {name} is that of {title(objective)} in class {label} of {task}, "
        f"{number(value)}."
    )


def cost_table(tasks: Sequence[Evaluated]) -> pd.DataFrame:
    """Of every arm: models, seconds of a training, settings tried for each, and hours of all."""
    rows = []
    runs, search = (_joined(tasks, name) for name in ("runs", "search"))
    for arm, own in runs.groupby(ARM, sort=False):
        tried = search[(search[ARM] == list(arm)).all(axis=1)]
        settings = max(1, int(tried["setting"].nunique()))
        seconds = tried["seconds"].sum() if len(tried) else own["seconds"].sum()
        rows.append([*arm, len(own), own["seconds"].mean(), settings, seconds / 3600])
    return pd.DataFrame(rows, columns=[*ARM, "models", "seconds", "settings", "hours"])


def _cost_blocks(tasks: Sequence[Evaluated]) -> list[Block]:
    found = cost_table(tasks)
    body = [
        [
            title(row["aggregator"]),
            title(row["objective"]),
            f"{row['models']:.0f}",
            f"{row['seconds']:.1f}",
            f"{row['settings']:.0f}",
            f"{row['hours']:.2g}",
        ]
        for _, row in found.iterrows()
    ]
    header = ["aggregator", "objective", "models", "seconds", "settings", "hours"]
    total = Text(f"All trainings together took {found['hours'].sum():.2g} hours.")
    return [Heading("At what cost"), total, Table(COST, header, body, 2)]


def _rate_blocks(tasks: Sequence[Evaluated]) -> list[Block]:
    parts = [rate_table(task.table("sensitivity")) for task in tasks]
    found = pd.concat(parts).assign(loss=lambda t: t["best_value"] - t["worst_value"])
    found = found[found["rates"] > 1]
    if found.empty:
        return []
    body = [
        [
            title(arm[0]),
            title(arm[1]),
            ", ".join(f"{rate:g}" for rate in sorted(own["best"].unique())),
            number(own["loss"].mean()),
            number(own["loss"].max()),
            f"{own['early'].median():.0f}",
        ]
        for arm, own in found.groupby(ARM, sort=False)
    ]
    header = ["aggregator", "objective", "best rates", "mean loss", "largest loss", "epochs"]
    caption = (
        "How far each arm hangs on its learning rate, over the tasks: what the worst rate that was "
        "tried loses against the best, in macro-F1 on validation, and after how many epochs "
        "(median) the best rate is within .01 of its best. The maps are with each task."
    )
    return [
        Heading("Sensitivity to the learning rate and the epochs"),
        Table(caption, header, body, 3),
    ]


def _trouble_blocks(tasks: Sequence[Evaluated]) -> list[Block]:
    runs = _joined(tasks, "runs")
    failed = runs["status"] != "ok"
    state = runs["state"] if "state" in runs else pd.Series("", index=runs.index)
    counts = runs.assign(
        failed=failed,
        collapsed=(state == "collapsed") & ~failed,
        undertrained=(state == "undertrained") & ~failed,
    )
    names = ["failed", "collapsed", "undertrained"]
    found = counts.groupby(["task", *ARM], sort=False)[names].sum()
    models = counts.groupby(["task", *ARM], sort=False).size()
    body = [
        [key[0], title(key[1]), title(key[2]), str(models[key]), *map(str, row)]
        for key, row in zip(found.index, found.to_numpy(), strict=True)
        if any(row)
    ]
    if not body:
        return [Text("No model failed, collapsed or was left undertrained.")]
    header = ["task", "aggregator", "objective", "models", *names]
    caption = (
        "Models with a problem: failed ones diverged and have no result; collapsed ones tell no "
        "classes apart, undertrained ones were still learning at their last epoch, and both count "
        "in all values above."
    )
    return [Heading("What failed, collapsed or was undertrained"), Table(caption, header, body, 3)]
