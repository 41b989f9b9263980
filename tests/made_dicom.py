"""Made-up headers of DICOM files: nothing but what says which series a file belongs to."""

from pathlib import Path

from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

EXPLICIT, IMPLICIT = ExplicitVRLittleEndian, ImplicitVRLittleEndian


def write_dicom(path: Path, series: str, syntax: str = EXPLICIT, content: bytes = b"") -> Path:
    """A file of a series, behind sequences that name another series."""
    other = Dataset()
    other.SeriesInstanceUID = "9.9.9"
    other.is_undefined_length_sequence_item = True
    header = FileDataset(str(path), {}, preamble=bytes(128), file_meta=FileMetaDataset())
    header.file_meta.TransferSyntaxUID = syntax
    header.ReferencedSeriesSequence = [other]
    header["ReferencedSeriesSequence"].is_undefined_length = True
    header.ReferencedImageSequence = [other]
    header.SeriesInstanceUID = series
    header.BitsAllocated = 8
    header.PixelData = content + bytes(len(content) % 2)
    header.save_as(path, enforce_file_format=False)
    return path
