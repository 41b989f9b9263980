"""What is wrong with a cohort beyond its single keys: labels, files, scale, tissue options."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from wsi_ncmi.address import is_remote, no_such
from wsi_ncmi.cohorts.classes import in_classes
from wsi_ncmi.cohorts.sheet import SlideRow, label_problems, tissue_problems
from wsi_ncmi.cohorts.split_file import read_split_file
from wsi_ncmi.cohorts.twins import leak, patients_of, same_files, told_apart
from wsi_ncmi.config import Bags, Config
from wsi_ncmi.errors import PartError
from wsi_ncmi.planning.division import division_problems
from wsi_ncmi.slides.parts import slide_files


def problems_of_cohort(
    config: Config, rows: Sequence[SlideRow], sheet: str, *, whole: bool = True
) -> list[str]:
    """Every problem, in words.

    Args:
        sheet: path of the slide sheet, for the texts.
        whole: the rows are all of the sheet's. Where some could not be read, nothing is said of
            what the sheet lacks.
    """
    return [
        *_labels(config, rows, sheet),
        *(_lacks(config, rows, sheet) if whole else []),
        *_files(config),
        *_packages(config),
        *_scale(config),
        *twin_problems(config, rows),
        *tissue_problems(rows, config.tiling.tissue, sheet),
    ]


def _packages(config: Config) -> list[str]:
    """Optional packages that the configuration asks for and that are not installed."""
    if not config.evaluation.robustness_index or find_spec("croma"):
        return []
    return [
        "evaluation.robustness_index: needs the package croma, which is not installed: pip install "
        "'wsi-ncmi[croma]', or set it to false"
    ]


def _labels(config: Config, rows: Sequence[SlideRow], sheet: str) -> list[str]:
    if not rows:
        return []
    classes = [label for task in config.tasks.values() for label in task.labels]
    return label_problems(rows, classes, config.ignore_labels, sheet)


def _lacks(config: Config, rows: Sequence[SlideRow], sheet: str) -> list[str]:
    """What the tasks ask for and the sheet does not have."""
    if not rows:
        return []
    found = {row.label for row in rows}
    problems = [
        f"tasks.{name}.classes: no slide of {sheet} has label {label!r}"
        for name, task in config.tasks.items()
        for label in task.labels
        if label not in found
    ]
    problems += division_problems(config, rows, sheet)
    return problems + _split_files(config, rows)


def _split_files(config: Config, rows: Sequence[SlideRow]) -> list[str]:
    problems = []
    for name, task in config.tasks.items():
        if rows and task.protocol.file is not None:
            found = read_split_file(Path(task.protocol.file), in_classes(rows, task), task.classes)[
                1
            ]
            problems += [f"tasks.{name}.protocol.file: {text}" for text in found]
    return problems


def twin_problems(config: Config, rows: Sequence[SlideRow]) -> list[str]:
    """Files that stand under the ids of several patients; copies are found by what they hold."""
    found = []
    for files in files_of(config, rows):
        several, _ = told_apart(same_files(files), patients_of(rows))
        found += [leak("the same file", shown) for shown in several]
    return found


def files_of(config: Config, rows: Sequence[SlideRow]) -> list[dict[str, str]]:
    """Slide -> its file; of bags once for every encoder, nothing for packed ones."""
    if config.bags is None:
        return [{row.slide_id: _first_file(row.path) for row in rows}]
    each = [config.bags.of(name) for name in (config.bags.name, *config.bags.others)]
    return [
        {} if own.format == "packed" else {row.slide_id: _bag_file(own, row) for row in rows}
        for own in each
    ]


def _bag_file(bags: Bags, row: SlideRow) -> str:
    return f"{bags.path}/{row.slide_id}.{bags.format}"


def _first_file(path: str) -> str:
    """The same one for whichever file of a DICOM series the sheet names."""
    try:
        return path if not path or is_remote(path) else str(min(slide_files(Path(path))))
    except OSError:  # its stage says so
        return path


def _scale(config: Config) -> list[str]:
    """What published encoders say of the tiles, before anything is tiled."""
    if not (config.demo or config.slides):
        return []
    from wsi_ncmi.encoders import check_scale, published_facts

    problems = []
    for one in config.extraction.each.values():
        facts = None if one.any_scale else published_facts(one.encoder)
        try:
            if facts is not None:
                check_scale(facts, config.tiling.mpp, config.tiling.side_px)
        except PartError as error:
            problems.append(str(error))
    return problems


def _files(config: Config) -> list[str]:
    wanted: dict[str, str | None] = {"bags.path": config.bags.path if config.bags else None}
    if config.demo or config.slides:
        for name, one in config.extraction.each.items():
            wanted[f"{config.extraction.key(name)}.weights"] = one.weights
        wanted["tiling.tissue.weights"] = config.tiling.tissue.weights
    for name, other in config.bags.others.items() if config.bags else ():
        wanted[f"bags.others.{name}.path"] = other.path
    for name, image_task in config.images.items():
        wanted[f"images.{name}.path"] = image_task.path
    return [
        f"{key}: {no_such(path)}"
        for key, path in wanted.items()
        if path is not None and not is_remote(path) and not Path(path).exists()
    ]
