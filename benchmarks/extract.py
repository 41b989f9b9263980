"""Whole extractions: ours, and the common way of a DataLoader per slide.

    python benchmarks/extract.py --device cpu
    python benchmarks/extract.py --device cuda --workers 8 --slides 16

From tiled slides of the CAMELYON layout (slides_made.py) to a file of features for each, page cache
warm. Ours: threads that decode native tiles, batches that slides fill together, resize and
normalisation on the device, bags checked and flushed to the disk. The common way
(common_way.py): worker processes that make float tiles by OpenSlide and PIL, one slide after the
other. Both have the same network; one encoder costs nothing, so that what is left is the rest of
the work. On CUDA both run under bf16, and ours once more with `compile`. Then the memory of ours
over 4 and over 16 slides, in processes of their own. Writes results/extract-<device>.json.
"""

import argparse
import ctypes
import gc
import io
import multiprocessing
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import redirect_stderr
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import timm
import torch
from common_way import CommonTile, SlideTiles, encode_slide
from free_encoder import free_encoder
from measure import RESULTS, ratio, record, spent
from slides_made import LAYOUTS, Pattern, tissue_pattern, write_slide

from wsi_ncmi.bags.store import Bag, write_bag
from wsi_ncmi.cohorts.sheet import SlideRow
from wsi_ncmi.config import Extraction, Tiling
from wsi_ncmi.encoders import build_encoder
from wsi_ncmi.encoders.interface import Encoder
from wsi_ncmi.encoders.weights import state_sha256
from wsi_ncmi.extraction.allocator import keep_freed_memory
from wsi_ncmi.extraction.batches import Job
from wsi_ncmi.extraction.encode import AUTOCAST, BatchEncoder, resolve_autocast
from wsi_ncmi.extraction.extract import Extractor
from wsi_ncmi.extraction.speed import Speed
from wsi_ncmi.machine import cpu_budget
from wsi_ncmi.tiling import tilefile
from wsi_ncmi.tiling.one_slide import tile_slide

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
WEIGHTS = SHARED / "weights" / "mobilenetv2_035_imagenet_keras.safetensors"
MOBILENET = {"arguments": {"pad_type": "same", "bn_eps": 1e-3}, "mean": [0.5] * 3, "std": [0.5] * 3}
LAYOUT = LAYOUTS["camelyon"]
MEMORY_SLIDES = (4, 16)


@dataclass(frozen=True)
class Setting:
    """What both ways share.

    Attributes:
        threads: of ours, for decoding; workers: processes of the common way.
        slides: (slide, its tile file).
    """

    device: torch.device
    batch_size: int
    threads: int
    workers: int
    slides: Sequence[tuple[Path, Path]]


def encoders(device: torch.device) -> dict[str, Callable[[], Encoder]]:
    """By name; the small backbone has random weights where its own are not at hand."""
    found: dict[str, Callable[[], Encoder]] = {"free": free_encoder}
    if WEIGHTS.is_file():
        found["mobilenetv2_035"] = partial(
            build_encoder, "mobilenetv2_035", MOBILENET, str(WEIGHTS)
        )
    else:
        found["mobilenetv2_035, random weights"] = partial(untrained, "mobilenetv2_035")
    if device.type == "cuda":
        found["resnet50, random weights"] = partial(untrained, "resnet50")
    return found


def untrained(name: str) -> Encoder:
    """A timm network as it is made: its speed is that of a trained one."""
    torch.manual_seed(0)
    module: Any = timm.create_model(name, pretrained=False, num_classes=0)
    return Encoder(
        name=name,
        description="random weights",
        module=module.eval().requires_grad_(False),
        dim=module.num_features,
        input_px=224,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        weights_source="random",
        weights_sha256=state_sha256(module),
        mpp=(),
        licence="none needed",
        options={},
    )


def make_slides(
    folder: Path, pattern: Pattern, count: int, tiles: tuple[int, int]
) -> list[tuple[Path, Path]]:
    """Slides of one content under several names, and their tile files, every tile kept."""
    folder.mkdir()
    first = write_slide(folder / "slide_0.tif", LAYOUT, pattern, tiles)
    made = []
    for number in range(count):
        path = folder / f"slide_{number}.tif"
        if path != first:
            path.hardlink_to(first)
        tile_slide(_row(path), Tiling(min_tissue=0.0), folder / "tiles")
        made.append((path, folder / "tiles" / f"{path.stem}.h5"))
    return made


def _row(path: Path) -> SlideRow:
    return SlideRow(path.stem, "", path.stem, "", str(path))


class Ours:
    """Our extraction with its encoder on its device, ready to be called.

    Attributes:
        verdict: of the last call, see `Speed.verdict`.
    """

    def __init__(self, setting: Setting, encoder: Encoder, out: Path, compiled: bool) -> None:
        self.setting, self.out, self.verdict = setting, out, ""
        autocast = resolve_autocast("auto", setting.device)
        options = Extraction(batch_size=setting.batch_size, compile=compiled)
        encode = BatchEncoder(encoder, setting.batch_size, setting.device, autocast, compiled)
        self.extractor = Extractor(
            encode=encode,
            options=options,
            autocast=autocast,
            augment=None,
            stain=None,
            threads=setting.threads,
        )

    def __call__(self) -> None:
        grids = [(_row(path), tilefile.read(tiles)) for path, tiles in self.setting.slides]
        jobs = (self.extractor.job(row, tiles) for row, tiles in grids)
        written: list[Future[None]] = []
        with redirect_stderr(io.StringIO()), ThreadPoolExecutor(1) as writer:

            def done(job: Job, result: Bag | Exception) -> None:
                if isinstance(result, Exception):
                    raise result
                path = self.out / f"{job.row.slide_id}.h5"
                written.append(writer.submit(write_bag, path, result))

            with Speed(sum(len(tiles) for _, tiles in grids)) as speed:
                self.extractor.run(jobs, done, speed)
        for future in written:
            future.result()
        self.verdict = speed.verdict()


def common(setting: Setting, encoder: Encoder, out: Path) -> None:
    """The common way, slide after slide."""
    out.mkdir(parents=True, exist_ok=True)
    module = encoder.module.to(setting.device)
    autocast = AUTOCAST.get(resolve_autocast("auto", setting.device))
    for path, tile_path in setting.slides:
        tiles = tilefile.read(tile_path)
        tile = CommonTile(tiles.level or 0, tiles.read_px or 1, encoder)
        encode_slide(
            SlideTiles(str(path), tiles.coords, tile),
            module,
            setting.device,
            out / f"{path.stem}.h5",
            batch_size=setting.batch_size,
            workers=setting.workers,
            autocast=autocast,
        )


def compare(
    setting: Setting, make: Callable[[], Encoder], folder: Path, rounds: int
) -> dict[str, Any]:
    """Both ways under one encoder."""
    ours = Ours(setting, make(), folder / "ours", compiled=False)
    rivals: dict[str, Callable[[], None]] = {
        "ours": ours,
        "the common way": partial(common, setting, make(), folder / "common"),
    }
    if setting.device.type == "cuda":
        rivals["ours, compiled"] = Ours(setting, make(), folder / "compiled", compiled=True)
    times = spent(rivals, setting.device, rounds=rounds)
    count = sum(len(tilefile.read(tiles)) for _, tiles in setting.slides)
    own = [name for name in rivals if name.startswith("ours")]
    return {
        "tiles": count,
        "tiles_per_s": {name: count / t["wall_s"] for name, t in times.items()},
        "tiles_per_cpu_s": {name: count / t["cpu_s"] for name, t in times.items()},
        "ratio": {name: ratio(times, "the common way", name, clock="wall") for name in own},
        "cpu_ratio": {name: ratio(times, "the common way", name) for name in own},
        "verdict": ours.verdict,
        "least_cosine": least_cosine(folder / "ours", folder / "common"),
        "seconds": times,
    }


def least_cosine(ours: Path, theirs: Path) -> float:
    """Of a tile's features by both ways, which differ in the filter of the resize."""
    found = []
    for path in sorted(ours.glob("*.h5")):
        with h5py.File(path) as a, h5py.File(theirs / path.name) as b:
            assert (a["coords"][:] == b["coords"][:]).all()
            x, y = a["features"][:].astype(np.float64), b["features"][:].astype(np.float64)
        lengths = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
        found.append(((x * y).sum(1) / lengths).min())
    return float(min(found))


def memory(setting: Setting, folder: Path) -> dict[str, Any]:
    """Memory over few and over many slides, each in a process of its own.

    The peak varies by some tens of MB with what the allocator keeps in reserve; what is still held
    after it gave that back would show slides that are never let go.
    """
    context = multiprocessing.get_context("spawn")
    found = {}
    for count in MEMORY_SLIDES:
        slides = [setting.slides[i % len(setting.slides)] for i in range(count)]
        own = replace(setting, slides=slides)
        with ProcessPoolExecutor(1, context) as pool:
            found[count] = pool.submit(memory_of_ours, own, folder).result()
    few, many = (found[count] for count in MEMORY_SLIDES)
    return {"slides": found, "growth": {name: many[name] - few[name] for name in few}}


def memory_of_ours(setting: Setting, folder: Path) -> dict[str, int]:
    """Resident bytes of this process: at most during an extraction, and held after it."""
    torch.set_num_threads(setting.threads)
    Ours(setting, free_encoder(), folder, compiled=False)()
    peak = _resident("VmHWM")
    gc.collect()
    give_back = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
    if give_back is not None:
        give_back(0)
    return {"peak_bytes": peak, "held_bytes": _resident("VmRSS")}


def _resident(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(f"{name}:")).split()[1])


def show(name: str, found: dict[str, Any]) -> None:
    print(f"\n{name}: {found['tiles']} tiles, {found['verdict']}")
    for rival, rate in found["tiles_per_s"].items():
        times = f"{found['ratio'][rival]:6.2f} x the common way" if rival in found["ratio"] else ""
        print(f"  {rival:20} {rate:8.0f} tiles/s {times}", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--slides", type=int, default=4)
    parser.add_argument("--side", type=int, default=20, help="tiles along a slide's sides")
    parser.add_argument("--threads", type=int, default=cpu_budget(), help="of ours, and of torch")
    parser.add_argument("--workers", type=int, default=2, help="processes of the common way")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="small slides, to try it out")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the JSON file")
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    keep_freed_memory()  # as our stage does; here the common way has it as well
    device = torch.device(args.device)
    side, slides = (6, 2) if args.quick else (args.side, args.slides)
    pattern = tissue_pattern()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        setting = Setting(
            device=device,
            batch_size=256 if device.type == "cuda" else 64,
            threads=args.threads,
            workers=args.workers,
            slides=make_slides(folder / "slides", pattern, slides, (side, side)),
        )
        found = {}
        for encoder, make in encoders(device).items():
            found[encoder] = compare(setting, make, folder / encoder, args.rounds)
            show(encoder, found[encoder])
        content = {
            "content": pattern.source,
            "quick": args.quick,
            "slides": slides,
            "batch_size": setting.batch_size,
            "threads": args.threads,
            "workers": args.workers,
            "encoders": found,
            "memory": memory(setting, folder / "memory"),
        }
    growth = {name: f"{size / 1e6:+.1f} MB" for name, size in content["memory"]["growth"].items()}
    print(f"\n{MEMORY_SLIDES[1]} slides against {MEMORY_SLIDES[0]}: {growth}")
    print(record("extract", device, content, args.out))


if __name__ == "__main__":
    main()
