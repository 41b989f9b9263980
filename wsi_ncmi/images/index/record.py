"""The index of a data set as it is kept: a table of images and one of the files they lie in."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from wsi_ncmi.files.atomic import atomic_path
from wsi_ncmi.images.datasets.files.members import Member
from wsi_ncmi.images.datasets.interface import DatasetError
from wsi_ncmi.provenance import digest

IMAGES, FILES = "images.parquet", "files.parquet"
PLACE = ("file", "offset", "size", "deflated")
COLUMNS = ("part", "id", "target", "height", "width", "pixels_sha256", "reason", *PLACE)
FILE_COLUMNS = ("file", "bytes", "mtime_ns", "sha256")
FACTS = ("classes", "protocol", "published", "stored", "source")


@dataclass(frozen=True, eq=False)
class Index:
    """What is known of a data set.

    Attributes:
        classes, protocol, published: see `ImageDataset`.
        stored: whether images lie in files of their own or in archives, by the places in `images`;
            else the data set's module reads them as an array.
        source: the name and options of the data set that was indexed.
        images: a row per image, in its part's order: `COLUMNS`. `pixels_sha256` is of its decoded
            pixels and their shape, "" for a corrupt one, whose `reason` says why.
        files: a row per file: name (of the data set's path itself: ""), size, time, SHA-256.
    """

    classes: list[str]
    protocol: str
    published: tuple[int, int] | None
    stored: bool
    source: dict[str, Any]
    images: pd.DataFrame
    files: pd.DataFrame

    @property
    def facts(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in FACTS}

    @property
    def digest(self) -> str:
        """Of all that decides what is trained on: neither where files lie nor their times."""
        shown = self.images[[name for name in COLUMNS if name not in PLACE]]
        hashes = pd.util.hash_pandas_object(shown, index=False).to_numpy().tobytes().hex()
        return digest([self.facts, hashes])

    def members(self, rows: pd.DataFrame) -> list[Member]:
        """Where the images of these rows lie."""
        columns = (rows[name].tolist() for name in ("id", *PLACE))
        return [Member(*values) for values in zip(*columns, strict=True)]


def files_digest(index: Index, path: Path) -> str:
    """Of names and SHA-256 of all files: the same wherever the data lie."""
    names = index.files["file"].where(index.files["file"] != "", path.name)
    pairs = zip(names, index.files["sha256"], strict=True)
    return digest(sorted([name, value] for name, value in pairs))


def write_index(folder: Path, index: Index) -> None:
    """Both tables; the one of images states the digest of the one of files, and comes last."""
    _write(folder / FILES, index.files, FILE_COLUMNS, {})
    facts = {**index.facts, "files": _state(index.files)}
    _write(folder / IMAGES, index.images, COLUMNS, facts)


def read_index(folder: Path) -> Index:
    """An index that `write_index` wrote.

    Raises:
        DatasetError: there is none, or it is not whole.
    """
    try:
        images, files = (pq.read_table(folder / name) for name in (IMAGES, FILES))
        facts = json.loads(images.schema.metadata[b"index"])
        stated = facts.pop("files")
        tables = images.to_pandas(), files.to_pandas()
        if facts["published"] is not None:
            facts["published"] = tuple(facts["published"])
        found = Index(**facts, images=tables[0], files=tables[1])
    except FileNotFoundError:
        raise DatasetError(
            f"{folder}: no index of the data set: make it by `wsi-ncmi images index`, or run "
            "Snakemake, which does"
        ) from None
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise DatasetError(f"{folder}: damaged index ({error}): remove it and run again") from None
    if stated != _state(found.files):
        raise DatasetError(f"{folder}: {FILES} and {IMAGES} differ: remove both and run again")
    return found


def _state(files: pd.DataFrame) -> str:
    return digest(files[list(FILE_COLUMNS)].to_dict("list"))


def _write(path: Path, frame: pd.DataFrame, columns: Sequence[str], facts: dict[str, Any]) -> None:
    table = pa.Table.from_pandas(frame[list(columns)], preserve_index=False)
    metadata = {**(table.schema.metadata or {}), b"index": json.dumps(facts).encode()}
    with atomic_path(path) as temporary:
        pq.write_table(table.replace_schema_metadata(metadata), temporary)
