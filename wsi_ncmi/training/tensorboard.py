"""Learning curves as TensorBoard event files, where the environment asks for them.

They decide no result and are no record, so no configuration and no digest knows of them.
"""

import os
from pathlib import Path
from typing import Any, Self

from wsi_ncmi.errors import PartError
from wsi_ncmi.predictions.records import Run
from wsi_ncmi.training.finite import History

VARIABLE = "WSI_NCMI_TENSORBOARD"


class Events:
    """Event files of runs: `<folder>/<task>/<run_id>/`, scalars `<part>/<quantity>` by epoch.

    Args:
        folder: None: nothing is written.

    Raises:
        PartError: a folder is given, and the package tensorboard is not installed.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.writers: dict[str, Any] = {}
        self.written: dict[str, int] = {}
        if folder is not None:
            _writer_class()

    @classmethod
    def asked(cls) -> Self:
        """Into the folder that the environment variable `WSI_NCMI_TENSORBOARD` names, if any."""
        named = os.environ.get(VARIABLE, "")
        return cls(Path(named).expanduser() if named else None)

    def see(self, run: Run, history: History) -> None:
        """After an epoch: write what is new of a run's curves.

        A process begins with the whole curves, in the place of what earlier ones wrote.
        """
        if self.folder is None:
            return
        name = run.run_id + (f"--{run.model_digest[:8]}" if run.among else "")
        if name not in self.writers:
            folder = self.folder / run.task / name
            self.writers[name] = _writer_class()(str(folder), purge_step=0)
        writer, done = self.writers[name], self.written.get(name, 0)
        for row in history.curves[done:]:
            for name in row.keys() - {"epoch", "part"}:
                writer.add_scalar(f"{row['part']}/{name}", row[name], row["epoch"])
        self.written[name] = len(history.curves)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for writer in self.writers.values():
            writer.close()


def _writer_class() -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise PartError(
            f"{VARIABLE} asks for TensorBoard event files, and the package tensorboard is not "
            f"installed ({error}): pip install 'wsi-ncmi[tensorboard]', or unset the variable"
        ) from None
    return SummaryWriter
