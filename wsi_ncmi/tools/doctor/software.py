"""What `doctor` asks of the software: versions, readers, codecs, extras, weights."""

import importlib.util
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from wsi_ncmi import registry
from wsi_ncmi.config import Extraction
from wsi_ncmi.machine import REPORTED_PACKAGES, package_version
from wsi_ncmi.tools.doctor.findings import Finding, Status

LOSSY = 8.0
"""Grey levels that a lossy codec may be off on average."""

OLDEST_PYTHON = (3, 11)
SAFE_OPENSLIDE = (4, 0, 1)
MENDED = ("CVE-2026-48977", "CVE-2026-54604")
# In a conda environment these are there without pip's metadata.
WITHOUT_METADATA = ("wsi-ncmi", "openslide-bin")
# codec -> (lossless, what needs it, whether slides of the common scanners need it)
CODECS = {
    "jpeg8": (False, "JPEG tiles, read by tiffslide", True),
    "zlib": (True, "deflate tiles, read natively", True),
    "lzw": (True, "LZW tiles, read by tiffslide", False),
    "jpeg2k": (False, "JPEG 2000 tiles, read by tiffslide", False),
}
# module -> (package, what it is for)
EXTRAS = {
    "gcsfs": ("gcsfs", "slides at gs:// addresses"),
    "croma": ("croma", "evaluation.robustness_index"),
    "pyautoattack": ("pyautoattack", "AutoAttack in the experiment robustness"),
    "pytorch_metric_learning": ("pytorch-metric-learning", "the loss supcon"),
    "snakemake_executor_plugin_slurm": ("snakemake-executor-plugin-slurm", "profiles/slurm"),
}


def packages() -> list[Finding]:
    """Versions of what results depend on."""
    version = platform.python_version()
    old = sys.version_info < OLDEST_PYTHON
    remedy = f"install Python {'.'.join(map(str, OLDEST_PYTHON))} or newer"
    found = [_finding("versions", "python", "missing" if old else "ok", version, remedy)]
    for name in REPORTED_PACKAGES:
        version = package_version(name)
        absent = version == "not installed"
        status: Status = ("warn" if name in WITHOUT_METADATA else "missing") if absent else "ok"
        found.append(_finding("versions", name, status, version, f"pip install {name}"))
    return found


def readers() -> list[Finding]:
    """Each reader on a slide that is written on the spot."""
    import openslide
    import tiffslide

    versions = {
        "native": "this package's own",
        "openslide": f"library {openslide.__library_version__}",
        "tiffslide": tiffslide.__version__,
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "slide.tif"
        image = _write_slide(path)
        return [_reader(name, path, image, text) for name, text in versions.items()]


def openslide_release() -> list[Finding]:
    """Whether OpenSlide's library is one that damaged or made slides cannot break into."""
    import openslide

    found = str(openslide.__library_version__)
    release = tuple(int(part) for part in re.findall(r"\d+", found)[:3])
    detail = f"library {found}"
    status: Status = "ok"
    if release < SAFE_OPENSLIDE:
        least = ".".join(map(str, SAFE_OPENSLIDE))
        detail = f"{detail}, expected {least} or newer, which mends {', '.join(MENDED)}"
        status = "warn"
    remedy = "pip install --upgrade 'openslide-bin>=4.0.1' (conda: openslide>=4.0.1)"
    return [_finding("readers", "openslide release", status, detail, remedy)]


def _write_slide(path: Path) -> np.ndarray:
    import tifffile

    image = _smooth(256)
    tifffile.imwrite(
        path,
        image,
        tile=(128, 128),
        photometric="rgb",
        compression="jpeg",
        resolution=(20_000, 20_000),
        resolutionunit="CENTIMETER",
    )
    return image


def _reader(name: Any, path: Path, image: np.ndarray, version: str) -> Finding:
    from wsi_ncmi.slides.reader import open_slide

    remedy = (
        "pip install --force-reinstall openslide-bin openslide-python simplejpeg tiffslide tifffile"
    )
    try:
        with open_slide(path, reader=name) as slide:
            same = _close(slide.read_region(0, 0, 0, 256, 256), image)
    except Exception as error:  # a broken library raises what it likes
        detail = f"{version}; {type(error).__name__}: {error}"
        return _finding("readers", name, "missing", detail, remedy)
    if not same:
        return _finding("readers", name, "missing", f"{version}; wrong pixels", remedy)
    return _finding("readers", name, "ok", f"{version}; reads a slide written now")


def codecs() -> list[Finding]:
    """Whether codecs give back what they took."""
    return [_codec(name, *facts) for name, facts in CODECS.items()]


def _codec(name: str, lossless: bool, use: str, needed: bool) -> Finding:
    import imagecodecs

    image = _smooth(32)
    remedy = "pip install --force-reinstall imagecodecs"
    try:
        encode, decode = (getattr(imagecodecs, f"{name}_{verb}") for verb in ("encode", "decode"))
        if lossless:
            right = bytes(decode(encode(image.tobytes()))) == image.tobytes()
        else:
            right = _close(decode(encode(image)), image)
    except Exception as error:  # imagecodecs stands in for an absent codec by raising
        detail = f"for {use}; {type(error).__name__}: {error}"
        return _finding("codecs", name, "missing", detail, remedy, needed=needed)
    if not right:
        detail = f"for {use}; gives back other pixels"
        return _finding("codecs", name, "missing", detail, remedy, needed=needed)
    return _finding("codecs", name, "ok", f"for {use}; encodes and decodes", needed=needed)


def _smooth(side: int) -> np.ndarray:
    """uint8 `[side, side, 3]`, gradients: lossy codecs come close to them."""
    y, x = np.mgrid[0:side, 0:side] * 255 // side
    return np.stack([x, y, (x + y) // 2], axis=2).astype(np.uint8)


def _close(found: np.ndarray, image: np.ndarray) -> bool:
    return bool(np.abs(found.astype(int) - image).mean() < LOSSY)


def extras() -> list[Finding]:
    """Packages that only some need."""
    found = []
    for module, (package, use) in EXTRAS.items():
        there = importlib.util.find_spec(module) is not None
        status: Status = "ok" if there else "missing"
        detail = f"for {use}{f'; {package_version(package)}' if there else ''}"
        found.append(
            _finding("extras", package, status, detail, f"pip install {package}", needed=False)
        )
    if shutil.which("sbatch"):
        found.append(_finding("extras", "sbatch", "ok", "this machine submits to Slurm"))
    return found


def weights(extraction: Extraction | None) -> list[Finding]:
    """The login at the hub, and the weights of every encoder of a configuration."""
    import huggingface_hub

    there = huggingface_hub.get_token() is not None
    detail = "a login is there" if there else "no login: gated encoders cannot be fetched"
    offline = os.environ.get("HF_HUB_OFFLINE", "") not in ("", "0")
    detail += "; HF_HUB_OFFLINE is set: nothing is fetched" if offline else ""
    status: Status = "ok" if there and not offline else "warn"
    remedy = "`hf auth login`, if you use a gated encoder"
    found = [_finding("weights", "hub", status, detail, remedy, needed=False)]
    if extraction is None:
        return found
    each = extraction.each.items()
    return [*found, *(_weights_of(one, extraction.key(name)) for name, one in each)]


def _weights_of(extraction: Extraction, key: str) -> Finding:
    name = extraction.encoder
    if extraction.weights is not None:
        path = Path(extraction.weights)
        if path.is_file():
            size = path.stat().st_size / 1e6
            return _finding("weights", name, "ok", f"{path}, {size:.1f} MB")
        remedy = f"correct {key}.weights"
        return _finding("weights", name, "missing", f"{path}: no such file", remedy)
    refused = _refused(name)
    if refused:
        remedy = f"or give the file as {key}.weights"
        remedy += f", or leave the encoder out by {key}: null" * (key != "extraction")
        return _finding("weights", name, "missing", refused, remedy)
    places = _published(name)
    if not places and not _is_known(name):
        remedy = f"correct {key}.encoder{_nearest(name)}"
        return _finding("weights", name, "missing", "no encoder has this name", remedy)
    if not places:
        return _finding("weights", name, "ok", "needs none, or timm knows where from")
    cached = _cached(places)
    if cached is not None:
        return _finding("weights", name, "ok", f"in the hub's cache: {cached.name}")
    repository = places[0][0]
    remedy = f"they are fetched from {repository} when first used; gated ones need a login"
    return _finding(
        "weights", name, "warn", f"of {repository}: not in the hub's cache", remedy, needed=False
    )


def _refused(name: str) -> str:
    """Why a published encoder's weights cannot be fetched."""
    from wsi_ncmi.encoders import published_facts
    from wsi_ncmi.encoders.hub import no_access

    facts = published_facts(name)
    return no_access(facts, ask=True) if facts is not None else ""


def _is_known(name: str) -> bool:
    import timm

    return name in registry.names("encoder") or timm.is_model(name)


def _nearest(name: str) -> str:
    import timm

    near = get_close_matches(name, [*registry.names("encoder"), *timm.list_models()], 3)
    return f": did you mean {', '.join(near)}?" if near else ""


def _published(name: str) -> list[tuple[str, str]]:
    """(repository, file) where an encoder's weights may lie at the hub."""
    from wsi_ncmi.encoders import published_facts

    facts = published_facts(name)
    if facts is not None:
        return [(facts.repository, facts.filename)] if facts.repository else []
    repository = name.removeprefix("hf-hub:") if name.startswith("hf-hub:") else _timm_hub(name)
    files = ("model.safetensors", "pytorch_model.bin")
    return [(repository, file) for file in files] if repository else []


def _timm_hub(name: str) -> str:
    import timm

    config = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    return getattr(config, "hf_hub_id", None) or ""


def _cached(places: Sequence[tuple[str, str]]) -> Path | None:
    import huggingface_hub

    for repository, file in places:
        found = huggingface_hub.try_to_load_from_cache(repository, file)
        if isinstance(found, str):
            return Path(found)
    return None


def _finding(
    area: str, name: str, status: Status, detail: str, remedy: str = "", *, needed: bool = True
) -> Finding:
    return Finding(area, name, status, " ".join(detail.split()), remedy, needed)
