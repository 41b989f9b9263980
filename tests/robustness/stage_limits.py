"""Stages and writers in children that may write, or keep, only so much."""

import json
import os
import resource
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from robustness.stage_runs import PATIENCE, Run, contents, differences, emptied, ended, fork


def outcome(work: Callable[[], None], limit: int | None = None) -> dict[str, Any]:
    """What becomes of work in a child whose files may have `limit` bytes: EFBIG beyond.

    Python ignores SIGXFSZ, so that writing fails as on a full disk and nothing is killed.
    """
    reading, writing = os.pipe()

    def limited() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        try:
            work()
            told: dict[str, Any] = {}
        except Exception as error:
            bases = [base.__name__ for base in type(error).__mro__]
            told = {"error": bases[0], "user_error": "UserError" in bases, "text": str(error)}
        told["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        os.write(writing, json.dumps(told).encode())

    pid = fork(limited, Path(os.devnull))
    os.close(writing)
    code = ended(pid, PATIENCE)
    whole_group = emptied(pid)
    with os.fdopen(reading) as file:
        text = file.read()
    told = json.loads(text) if text else {}
    return {"limit": limit, "exit": code, "ended": whole_group, **told}


def full_disk(run: Run, limit: int) -> dict[str, Any]:
    """Half of the slides without a limit, all with it, all without: what is there each time."""
    shutil.rmtree(run.out, ignore_errors=True)
    expected = _expected(run, run.out.with_name("clean"))
    assert "error" not in outcome(replace(run, slides=run.slides[:4]))
    before = {path: path.stat().st_mtime_ns for path in run.out.glob("slide_*.h5")}
    report = outcome(run, limit)
    found = contents(run.out)
    for name in ("bucket-0.tsv", "bucket-0.seen.json"):  # of half of the slides, or of all
        found.pop(name, None)
    report["wrong"] = [name for name, data in found.items() if data != expected.get(name)]
    report["touched"] = [path.name for path, t in before.items() if path.stat().st_mtime_ns != t]
    again = outcome(run)
    report["again"] = [again.get("error", ""), *differences(contents(run.out), expected)]
    return report


def _expected(run: Run, folder: Path) -> dict[str, bytes]:
    """What a clean run leaves."""
    clean = replace(run, out=folder / run.stage)
    if not clean.out.is_dir():
        told = outcome(clean)
        assert "error" not in told, told
    return contents(clean.out)


def run_into(run: Run, clean: Path) -> dict[str, Any]:
    """A run into any folder, compared with a clean one."""
    expected = _expected(run, clean)
    report = outcome(run)
    found = contents(run.out)
    report["whole"] = sum(data == expected.get(name) for name, data in found.items())
    report["wrong"] = [name for name, data in found.items() if data != expected.get(name)]
    report["missing"] = sorted(expected.keys() - found.keys())
    return report


def write_limited(kind: str, folder: Path, limit: int) -> dict[str, Any]:
    """One file over an older one, under a limit: which file is there, and what else."""
    write = writer(kind)
    path, other = folder / kind, folder / f"other_{kind}"
    write(path, 1)
    old = path.read_bytes()
    write(other, 2)
    new = other.read_bytes()
    other.unlink()
    report = outcome(lambda: write(path, 2), limit)
    found = path.read_bytes()
    report["file"] = "old" if found == old else "new" if found == new else "neither"
    report["size"] = len(new)
    report["left"] = [p.name for p in folder.iterdir() if p.name.startswith(".")]
    return report


def peak_memory(folder: Path, slide: Path, slides: int) -> int:
    """The most bytes that an extraction has in memory, of so many slides that differ in name."""
    from wsi_ncmi.cohorts.sheet import SlideRow
    from wsi_ncmi.config import Extraction, Tiling
    from wsi_ncmi.stages import features, tiles

    shutil.rmtree(folder, ignore_errors=True)
    rows = [SlideRow(f"s{i}", "label", "patient", "centre", str(slide)) for i in range(slides)]
    tiling, first = Tiling(mpp=2.0, tile_px=64, overlap_px=48), folder / "tiles" / "s0.h5"
    told = outcome(lambda: tiles.run(rows[:1], tiling, first.parent, folder / "tiles.tsv", 1))
    assert "error" not in told
    for row in rows[1:]:
        shutil.copyfile(first, first.with_name(f"{row.slide_id}.h5"))
    extraction = Extraction(encoder="random_resnet", batch_size=32, dtype="float32", any_scale=True)

    def extract() -> None:
        real = features.build_encoder
        features.build_encoder = lambda *arguments: _wide(real(*arguments))
        features.run(rows, extraction, first.parent, folder / "bags", folder / "bags.tsv", 2)

    told = outcome(extract)
    assert "error" not in told, told
    assert len(list((folder / "bags").glob("*.h5"))) == slides
    return int(told["peak"])


def _wide(encoder: Any) -> Any:
    """An encoder of 1024 features that cost nothing: 4 KiB a tile."""
    import torch

    class Wide(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.mean((2, 3)).repeat(1, 342)[:, :1024]

    return replace(encoder, module=Wide(), dim=1024, input_px=16)


def writer(kind: str) -> Callable[[Path, int], None]:
    """Writes a file of this kind; its content follows from a number."""
    from wsi_ncmi.bags.store import write_bag
    from wsi_ncmi.files.atomic import write_text
    from wsi_ncmi.tiling import overlay, tilefile

    return {
        "bag": lambda path, seed: write_bag(path, _bag(seed)),
        "tiles": lambda path, seed: tilefile.write(path, _tile_file(seed)),
        "picture": lambda path, seed: overlay.write_jpeg(path, _noise(seed)),
        "text": lambda path, seed: write_text(path, f"{seed}\n" * 5000),
    }[kind]


def _noise(seed: int) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (96, 96, 3)).astype(np.uint8)


def _bag(seed: int) -> Any:
    from wsi_ncmi.bags.store import Bag

    rng = np.random.default_rng(seed)
    return Bag(
        features=rng.normal(size=(100, 32)).astype(np.float16),
        coords=rng.integers(0, 9999, (100, 2)).astype(np.int32),
        tissue_fraction=np.ones(100, np.float16),
        invalid_coords=np.empty((0, 2), np.int32),
        augmented=np.empty((0, 100, 32), np.float16),
        attributes={"digest": str(seed)},
    )


def _tile_file(seed: int) -> Any:
    from made_tiled import tiled_slide

    from wsi_ncmi.tiling.tilefile import DTYPES

    rng = np.random.default_rng(seed)
    arrays = {name: rng.integers(0, 9, 100).astype(dtype) for name, dtype in DTYPES.items()}
    arrays["coords"] = rng.integers(0, 9999, (100, 2)).astype(np.int32)
    return tiled_slide("one", digest=str(seed), **arrays)
