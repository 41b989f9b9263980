"""What stands in the terminal when a run fails, through Snakemake's own handlers."""

from pathlib import Path
from typing import Any

import pytest
from workflow.test_search import CONFIG, write_bags


@pytest.mark.parametrize("quiet", [(), ("--quiet", "rules")])
def test_the_end_of_a_failed_jobs_log(
    make_workflow: Any, tmp_path: Path, quiet: tuple[str, ...]
) -> None:
    workflow = make_workflow(tmp_path)
    workflow.config.clear()
    workflow.config.update(CONFIG)
    write_bags(tmp_path)
    path = Path(CONFIG["bags"]["path"])
    (tmp_path / path).write_bytes(b"no bags")
    name = CONFIG["bags"].get("name", "imported")
    log = f"results/{CONFIG['cohort']}/logs/import_bags/{name}.log"
    done = workflow.snakemake(f"results/{CONFIG['cohort']}/cache/{name}/index.tsv", *quiet)
    said = done.stdout + done.stderr
    assert done.returncode == 1
    _, end = said.split(f"import_bags/{name} did not end well. The last lines of {log}:\n")
    assert end.split("\n")[0].startswith("    20")
    assert f"ERROR {path}" in end
    assert "what is finished is kept." in end
    assert "The report" not in said
