"""`snakemake -n --configfile config/images/<name>.yaml` plans, of every file there."""

import re
from pathlib import Path

import pytest
from made_experiments import CONFIGS, is_full, read, write_data
from snakemake.api import SnakemakeApi
from snakemake.settings.types import ConfigSettings, DAGSettings, OutputSettings, ResourceSettings


def dry_run(root: Path, file: Path, folder: Path) -> None:
    """Within this process: starting Snakemake costs more than planning."""
    with SnakemakeApi(OutputSettings(dryrun=True, nocolor=True)) as api:
        workflow = api.workflow(
            resource_settings=ResourceSettings(cores=2),
            config_settings=ConfigSettings(configfiles=[file]),
            snakefile=root / "Snakefile",
            workdir=folder,
        )
        workflow.dag(DAGSettings()).execute_workflow(executor="dryrun")


def test_every_experiment_has_both_sizes() -> None:
    assert len(CONFIGS) >= 2
    small = {path.stem for path in CONFIGS if not is_full(path)}
    assert {path.stem.removesuffix("-full") for path in CONFIGS if is_full(path)} == small


@pytest.mark.parametrize("file", CONFIGS, ids=lambda path: path.stem)
def test_the_dry_run_plans_every_training(
    root: Path, file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    raw = read(file)
    write_data(raw, tmp_path)
    dry_run(root, file, tmp_path)
    planned = dict(re.findall(r"^(\w+) +(\d+)$", "".join(capfd.readouterr()), re.M))
    tasks = raw["images"].values()
    assert int(planned["train_images"]) == sum(len(task.get("seeds", [0, 1, 2])) for task in tasks)
    assert int(planned["evaluate"]) == len(tasks)
    assert planned["experiment"] == planned["html_report"] == "1"
