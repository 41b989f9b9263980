"""How far each stage is: counted in slides, models and tasks."""

import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from wsi_ncmi.cohorts.classes import rows_of
from wsi_ncmi.cohorts.sheet import SlideRow
from wsi_ncmi.config import Config
from wsi_ncmi.files.table import read_text
from wsi_ncmi.predictions.records import FAILED, OK
from wsi_ncmi.tools.plan.trainings import Trainings

PACE = 50
"""Products by whose times the pace of a stage is known."""


@dataclass(frozen=True)
class Stage:
    """A stage's products.

    Attributes:
        stage: `tiles`, `features`, `train`, `evaluate`, `external` or `report`.
        of: the encoder, the task or the second cohort; "" where there is one.
        unit: what is counted.
        done: made, or known not to be needed, as of a slide without tissue.
        failed: with a reason that the report gives.
        reasons: reason -> how many.
        seconds_left: of slides at the pace of the last `PACE`, of models on one core by those that
            are trained; None: not known.
    """

    stage: str
    of: str
    unit: str
    total: int
    done: int
    failed: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)
    seconds_left: float | None = None

    @property
    def left(self) -> int:
        return max(0, self.total - self.done - self.failed)


def stages(
    root: Path,
    config: Config,
    rows: Sequence[SlideRow],
    models: Sequence[Trainings],
    external: Mapping[str, Sequence[SlideRow]] = MappingProxyType({}),
) -> list[Stage]:
    """All stages of a configuration, in the order of the work.

    Args:
        external: second cohort -> its slides.
    """
    return list(_stages(root, config, rows, models, external))


def _stages(
    root: Path,
    config: Config,
    rows: Sequence[SlideRow],
    models: Sequence[Trainings],
    external: Mapping[str, Sequence[SlideRow]],
) -> Iterator[Stage]:
    if config.demo or config.slides:
        ids = {row.slide_id for row in rows}
        yield _of_slides("tiles", "", root / "tiles", ids)
        for encoder in config.encoders:
            yield _of_slides("features", encoder, root / "features" / encoder, ids)
    for name, slides in external.items() if config.slides else ():
        place, ids = root / "external" / name, {row.slide_id for row in slides}
        yield _of_slides("tiles", name, place / "tiles", ids)
        for encoder in config.encoders:
            yield _of_slides("features", f"{name}, {encoder}", place / "features" / encoder, ids)
    for one in models:
        yield _of_models(root / "runs" / one.task, one)
    evaluated = [(root / "runs" / one.task / "evaluation/summary.json").is_file() for one in models]
    yield Stage("evaluate", "", "tasks", len(models), sum(evaluated))
    for name, slides in external.items():
        tasks = [task for task, one in config.tasks.items() if rows_of(slides, one)]
        done = [
            (root / "runs" / task / f"external/{name}/summary.json").is_file() for task in tasks
        ]
        yield Stage("external", name, "tasks", len(tasks), sum(done))
    yield Stage("report", "", "pages", 1, int((root / "report/index.html").is_file()))


def _of_slides(stage: str, of: str, folder: Path, ids: set[str]) -> Stage:
    """By the manifests of finished buckets, and by the files of those that are not."""
    status: dict[str, tuple[str, str]] = {}
    for manifest in folder.glob("bucket-*.tsv"):
        for _, row in read_text(manifest).rows:
            status[row["slide_id"]] = (row["status"], row["reason"])
    files = {path.stem: path.stat().st_mtime for path in folder.glob("*.h5")}
    known = {name: found for name, found in status.items() if name in ids}
    failed = {name for name, (said, _) in known.items() if said not in (OK, "no_tissue")}
    made = known.keys() - failed | (ids & files.keys()) - known.keys()
    reasons = dict(Counter(known[name][0] for name in failed))
    left = len(ids) - len(made) - len(failed)
    times = [when for name, when in files.items() if name in ids]
    return Stage(
        stage, of, "slides", len(ids), len(made), len(failed), reasons, seconds_left(times, left)
    )


def _of_models(folder: Path, one: Trainings) -> Stage:
    status = [_status(path) for path in folder.glob("*/run.json")]
    done, failed = status.count(OK), status.count(FAILED)
    left = max(0, one.runs - done - failed)
    seconds = None if one.seconds is None else one.seconds * one.models * left / one.runs
    reasons = {"diverged": failed} if failed else {}
    return Stage("train", one.task, "models", one.runs, done, failed, reasons, seconds)


def _status(record: Path) -> str:
    try:
        return str(json.loads(record.read_text())["status"])
    except (OSError, ValueError, KeyError):  # being written, or damaged: it is trained again
        return ""


def seconds_left(times: Sequence[float], left: int, now: float | None = None) -> float | None:
    """At the pace of the last products.

    Args:
        times: when each product was made, seconds since the epoch.
        left: products that are missing.
        now: see `jobs.jobs`.
    """
    if not left:
        return 0.0
    recent = sorted(times)[-PACE:]
    if len(recent) < 2:
        return None
    at = time.time() if now is None else now
    # A pause is no pace: since a stopped pipeline's last product nothing counts.
    end = at if at - recent[-1] < recent[-1] - recent[0] else recent[-1]
    return left * (end - recent[0]) / (len(recent) - 1)
