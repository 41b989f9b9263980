"""`wsi-ncmi camelyon17 …`: synthetic slides under the challenge's names."""

from pathlib import Path

from wsi_ncmi.cli import option
from wsi_ncmi.cli.commands import Commands

commands = Commands()

labels = option.path("--labels", "CAMELYON-17's label file, CSV.")


@commands.command("camelyon17 demo")
@labels
@option.number("--slides", int, "Number of slides.", 100)
@option.seed(17)
@option.target("--out", "folder", "Folder of the slides.")
@option.threads
def camelyon17_demo(labels: Path, slides: int, seed: int, out: Path, threads: int) -> None:
    """Write synthetic slides in CAMELYON-17's format.

    Names, labels, patients, centres, µm/px and folders are the real ones; tissue and lesions are 8
    times smaller.
    """
    from wsi_ncmi.cohorts.label_versions import read_labels
    from wsi_ncmi.stages import demo as stage

    stage.run_camelyon17(read_labels(labels), slides, out, seed, threads)
