"""What is wrong with a second cohort, before anything runs: above all, what it shares."""

from collections.abc import Sequence
from pathlib import Path

from wsi_ncmi.address import is_remote, no_such
from wsi_ncmi.cohorts.classes import rows_of
from wsi_ncmi.cohorts.sheet import SlideRow, label_problems, tissue_problems
from wsi_ncmi.cohorts.twins import file_key
from wsi_ncmi.config import Config
from wsi_ncmi.errors import some
from wsi_ncmi.planning.division import patient_problems
from wsi_ncmi.planning.problems import files_of, twin_problems

REMEDY = "what was trained on validates nothing"


def external_problems(
    config: Config,
    name: str,
    own: Config,
    rows: Sequence[SlideRow],
    sheet: str,
    inside: Sequence[SlideRow],
    *,
    whole: bool,
) -> list[str]:
    """Every problem, in words.

    Args:
        name: of the second cohort.
        own: the configuration as if it were the cohort.
        rows, sheet: its slides, and the path of their sheet.
        inside: the slides of the cohort itself.
        whole: see `problems.problems_of_cohort`.
    """
    classes = [label for task in config.tasks.values() for label in task.labels]
    found = label_problems(rows, classes, config.ignore_labels, sheet)
    if whole and rows and not any(row.label in classes for row in rows):
        found.append(f"{sheet}: no slide has a label of any task: nothing can be validated")
    for task_name, task in config.tasks.items():
        of_task = patient_problems(task_name, task, rows_of(rows, task))
        found += [f"{sheet}: {text}" for text in of_task]
    found += tissue_problems(rows, config.tiling.tissue, sheet)
    found += [*_files(own), *twin_problems(own, rows), *_shared(config, own, rows, inside)]
    return [f"external.{name}: {text}" for text in found]


def _files(own: Config) -> list[str]:
    bags = own.bags
    wanted = {"bags.path": bags.path} if bags else {}
    wanted |= {f"bags.others.{n}.path": one.path for n, one in bags.others.items()} if bags else {}
    return [
        f"{key}: {no_such(path)}"
        for key, path in wanted.items()
        if not is_remote(path) and not Path(path).exists()
    ]


def _shared(
    config: Config, own: Config, rows: Sequence[SlideRow], inside: Sequence[SlideRow]
) -> list[str]:
    """Patients and files in both cohorts.

    Names of patients may coincide by chance, but to rename one costs less than a validation on
    patients that were trained on. Names of slides say less: what the slides and bags hold is
    compared when they are there.
    """
    problems = []
    patients = sorted({row.patient_id for row in rows} & {row.patient_id for row in inside})
    if patients:
        problems.append(
            f"{len(patients)} patient(s) are patients of the cohort itself ({some(patients)}): "
            f"{REMEDY}; leave their slides out, or, if they are other people, rename them here"
        )
    for theirs, ours in zip(files_of(own, rows), files_of(config, inside), strict=True):
        known = {file_key(path): slide_id for slide_id, path in ours.items() if path}
        keys = {slide_id: known.get(file_key(path)) for slide_id, path in theirs.items() if path}
        pairs = [f"{slide_id} is {mine} there" for slide_id, mine in keys.items() if mine]
        if pairs:
            problems.append(
                f"{len(pairs)} file(s) are files of the cohort itself ({some(pairs)}): {REMEDY}"
            )
    return problems
