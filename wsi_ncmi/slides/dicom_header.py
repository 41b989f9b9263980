"""Which series a DICOM file belongs to.

Light: planning asks it of every file beside a DICOM slide; pydicom is imported where there is one.
"""

from pathlib import Path
from typing import Any

SERIES = 0x0020000E
PREAMBLE = 128


def series_of(path: Path) -> str:
    """The Series Instance UID of a file; "" where there is none, as in what is no DICOM file.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        if file.read(PREAMBLE + 4)[PREAMBLE:] != b"DICM":
            return ""
        from pydicom.filereader import read_partial

        file.seek(0)
        try:
            # Behind it come the positions of all frames, which take seconds to read.
            header = read_partial(file, stop_when=_is_behind_series, specific_tags=[SERIES])
        except Exception as error:
            if isinstance(error, OSError) and error.errno is not None:  # not one of pydicom's own
                raise
            return ""  # the reader will say what is wrong with it
    return str(header.get("SeriesInstanceUID", ""))


def _is_behind_series(tag: Any, representation: str | None, length: int) -> bool:
    return int(tag) > SERIES
