"""A trained model as one file: a zip of JSON and safetensors, in which nothing can be executed.

`model.json` says everything but the weights; `members/<i>.safetensors` are the states of the
models, `network.<name>` and `objective.<name>`; `ordinary.safetensors` says where the bags of the
training lie; `README.md` is a model card. Files are stored, not compressed: what is read is no
larger than the file.
"""

import json
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from wsi_ncmi.bags.ordinary import Ordinary
from wsi_ncmi.config.making import recorded
from wsi_ncmi.errors import UserError
from wsi_ncmi.files.atomic import atomic_path
from wsi_ncmi.machine import package_version
from wsi_ncmi.predictions.conformal import Validated
from wsi_ncmi.tools.predict.card import card
from wsi_ncmi.tools.predict.model import Model

FORMAT, VERSION = "wsi-ncmi model", 1
RECORD, ORDINARY, CARD = "model.json", "ordinary.safetensors", "README.md"
MEMBER = "members/{}.safetensors"
NAMES = re.compile(r"model\.json|ordinary\.safetensors|README\.md|members/[0-9]{1,4}\.safetensors")
LARGEST_RECORD, LARGEST_FILE = 2**26, 2**32
"""Bytes of `model.json`, and of all files together, that are read."""

TIME = (1980, 1, 1, 0, 0, 0)
"""Of every file in the zip, so that the same model gives the same bytes."""

STATES = ("network", "objective")
PLAIN = (
    *("task", "cohort", "aggregator", "objective", "sample", "classes"),
    *("encoder", "bags", "dim", "validation", "notes", "seen", "ranges", "metrics"),
)
ARRAYS = ("mean", "deviation", "distances")


def write_bundle(model: Model, path: Path) -> None:
    """Write a model; the file is whole or as it was."""
    files = {
        MEMBER.format(number): _weights(content) for number, content in enumerate(model.contents)
    }
    if model.ordinary is not None:
        arrays = {name: getattr(model.ordinary, name) for name in ARRAYS}
        files[ORDINARY] = safetensors.numpy.save(arrays)
    record = json.dumps(_record(model), indent=1, ensure_ascii=False)
    files |= {CARD: card(model).encode(), RECORD: record.encode()}
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, content in sorted(files.items()):
            archive.writestr(zipfile.ZipInfo(name, TIME), content)


def _weights(content: Mapping[str, Any]) -> bytes:
    states = {
        f"{part}.{name}": tensor.detach().cpu().clone().contiguous()
        for part in STATES
        for name, tensor in content[f"{part}_state"].items()
    }
    return safetensors.torch.save(states)


def _record(model: Model) -> dict[str, Any]:
    states = {f"{part}_state" for part in STATES}
    return {
        "format": FORMAT,
        "version": VERSION,
        "wsi_ncmi": package_version("wsi-ncmi"),
        "digest": model.digest,
        **{name: getattr(model, name) for name in PLAIN},
        "sections": _portable(model),
        "members": [
            {name: value for name, value in content.items() if name not in states}
            for content in model.contents
        ],
        "validated": [
            {
                "fold": one.fold,
                "targets": one.targets.tolist(),
                "strangeness": one.strangeness.tolist(),
            }
            for one in model.validated
        ],
    }


def _portable(model: Model) -> dict[str, Any]:
    """How bags are made, without the folders of this machine; empty: not known."""
    return recorded(model.sections, RECORD).portable() if model.sections else {}


def read_bundle(path: Path) -> Model:
    """Read what `write_bundle` wrote.

    Raises:
        UserError: it is no such file, of another version, damaged, or holds what does not belong
            there.
    """
    try:
        if path.is_file() and path.suffix != ".zip" and not zipfile.is_zipfile(path):
            raise UserError(f"{path}: not results/<cohort> nor an exported model (.zip)")
        with zipfile.ZipFile(path) as archive:
            _check_files(path, archive)
            record = json.loads(archive.read(RECORD))
            _check_version(path, record)
            return _model(path, archive, record)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (zipfile.BadZipFile, EOFError, ValueError, SafetensorError) as error:
        raise UserError(f"{path}: damaged ({error}): export it again") from None
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: {RECORD} is not whole ({error!r}): export it again") from None


def _check_files(path: Path, archive: zipfile.ZipFile) -> None:
    """Names, kinds and sizes, before anything is read. Nothing is ever unpacked onto the disk."""
    found = archive.infolist()
    names = [info.filename for info in found]
    if RECORD not in names:
        raise UserError(f"{path}: no model of wsi-ncmi: it holds no {RECORD}")
    foreign = sorted({name for name in names if not NAMES.fullmatch(name)})
    if foreign:
        raise UserError(f"{path}: holds {foreign[0]!r}, which belongs to no model: not opened")
    if len(set(names)) < len(names):
        raise UserError(f"{path}: holds a file twice: not opened")
    if any(info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1 for info in found):
        raise UserError(f"{path}: holds compressed or encrypted files: not opened")
    sizes = {info.filename: info.file_size for info in found}
    if sum(sizes.values()) > LARGEST_FILE or sizes[RECORD] > LARGEST_RECORD:
        raise UserError(
            f"{path}: states {sum(sizes.values())} bytes, {sizes[RECORD]} of them in {RECORD}: "
            f"more than {LARGEST_FILE} and {LARGEST_RECORD}: not opened"
        )


def _check_version(path: Path, record: Any) -> None:
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise UserError(f"{path}: {RECORD} is not of the format {FORMAT!r}")
    if record.get("version") != VERSION:
        raise UserError(
            f"{path}: version {record.get('version')} of the format, this wsi-ncmi reads "
            f"{VERSION}: it was written by wsi-ncmi {record.get('wsi_ncmi')}; use that one, or "
            "export it again"
        )


def _model(path: Path, archive: zipfile.ZipFile, record: Mapping[str, Any]) -> Model:
    contents = [
        {**plain, **_states(archive.read(MEMBER.format(number)))}
        for number, plain in enumerate(record["members"])
    ]
    model = Model(
        **{name: record[name] for name in PLAIN},
        contents=contents,
        validated=[_validated(one, len(record["classes"])) for one in record["validated"]],
        ordinary=_ordinary(archive, int(record["dim"])),
        sections=record.get("sections", {}),
    )
    if not contents or len(contents) != len(model.validated) or model.digest != record["digest"]:
        raise UserError(f"{path}: its members are not those of its digest: export it again")
    return model


def _states(content: bytes) -> dict[str, dict[str, Tensor]]:
    states: dict[str, dict[str, Tensor]] = {f"{part}_state": {} for part in STATES}
    for name, tensor in safetensors.torch.load(content).items():
        part, _, own = name.partition(".")
        states[f"{part}_state"][own] = tensor
    return states


def _validated(one: Mapping[str, Any], classes: int) -> Validated:
    targets = np.array(one["targets"], np.int64)
    strangeness = np.array(one["strangeness"], np.float64)
    if targets.shape != strangeness.shape or targets.ndim != 1:
        raise ValueError("targets and strangeness are of different lengths")
    if len(targets) and not 0 <= targets.min() <= targets.max() < classes:
        raise ValueError("a target is no class")
    return Validated(int(one["fold"]), targets, strangeness)


def _ordinary(archive: zipfile.ZipFile, dim: int) -> Ordinary | None:
    if ORDINARY not in archive.namelist():
        return None
    found = safetensors.numpy.load(archive.read(ORDINARY))
    if found["mean"].shape != (dim,) or found["deviation"].shape != (dim,):
        raise ValueError(f"{ORDINARY} is not of {dim} features")
    return Ordinary(*(found[name] for name in ARRAYS))
