"""CAMELYON-17 end to end through `fetch`, from a local S3 server whose network fails.

    python tests/camelyon17/small.py --bucket FOLDER --out results/camelyon17-small

FOLDER is what `wsi-ncmi camelyon17 demo` writes. The slides are put on a server (moto) as the
public bucket has them; config/camelyon17-small.yaml runs on them, behind a proxy that cuts
connections, answers 503, is slow, sends too few bytes once and wrong bytes once. When half of the
slides are encoded, everything is killed, and started again. What was met and measured is written to
`fetch.json`.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tests"))

import yaml  # noqa: E402
from made_s3 import Fault, Proxy, busy, cut, running, short, slow, wrong  # noqa: E402

from wsi_ncmi.config import Config  # noqa: E402

SHARES = {cut: 0.03, busy: 0.03, slow: 0.03}
"""Of the requests for slides' bytes, how many meet which fault; the others meet none."""
ONCE = (short, wrong)
COHORT = "camelyon17-small"


@dataclass
class Measured:
    """What was seen of a run.

    Attributes:
        most_bytes: of slides on the disk at one time, by their sizes on it.
        faults: name -> how often it was met.
    """

    most_bytes: int = 0
    faults: Counter[str] = field(default_factory=Counter)


def faults(measured: Measured, count: int, seed: int = 17) -> list[Fault]:
    """Of the next `count` requests for parts, each one that says that it was met."""
    rng = random.Random(seed)
    names = rng.choices([*SHARES, None], [*SHARES.values(), 1 - sum(SHARES.values())], k=count)
    for fault, place in zip(ONCE, rng.sample(range(min(count, 20)), len(ONCE)), strict=True):
        names[place] = fault
    return [_told(fault, measured) for fault in names]


def _told(fault: Fault | None, measured: Measured) -> Fault:
    def meet(*given: Any) -> bool:
        if fault is None:
            return False
        measured.faults[fault.__name__] += 1
        return fault(*given)

    return meet


def put_all(proxy: Proxy, folder: Path) -> tuple[int, int]:
    """Put the bucket's files on the server; how many slides, and their bytes."""
    slides = sorted((folder / "images").glob("*.tif"))
    for path in [*slides, *sorted((folder / "annotations").glob("*.xml"))]:
        proxy.put(f"CAMELYON17/{path.relative_to(folder)}", path.read_bytes())
    return len(slides), sum(path.stat().st_size for path in slides)


def write_config(out: Path, folder: Path, endpoint: str, room: int) -> Path:
    """What is of this run alone: where the server is, and room for some of the slides."""
    fetch = {
        "endpoint": endpoint,
        "checksums": str(folder / "checksums.md5"),
        "keep_slides": False,
        "disk_gb": room / 1e9,
        "part_mb": 1,
        "connections": 4,
    }
    path = out / "fetch.yaml"
    sheet = str(out / "slides.tsv")
    path.write_text(json.dumps({"slides": {"sheet": sheet, "fetch": fetch}}))
    return path


@contextmanager
def watching(folder: Path, measured: Measured) -> Iterator[None]:
    """Measure what slides take on the disk while something runs."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            sizes = [_on_disk(path) for path in folder.rglob("*.tif*")]
            measured.most_bytes = max(measured.most_bytes, sum(sizes))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def _on_disk(path: Path) -> int:
    try:
        return path.stat().st_blocks * 512
    except OSError:
        return 0


def encoders() -> list[str]:
    """Folders of the features that the configuration asks for."""
    raw = yaml.safe_load((ROOT / "config" / f"{COHORT}.yaml").read_text())
    return Config.model_validate(raw).encoders


def bags_of(results: Path) -> dict[str, int]:
    """Encoder -> how many of its bags are there."""
    folder = results / "features"
    return {name: len(list((folder / name).glob("patient_*.h5"))) for name in encoders()}


def killed_half_way(command: list[str], results: Path, slides: int) -> bool:
    """Start a run and kill all of it when half of the bags are there; whether it came to that."""
    process = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
    whole = slides * len(encoders())
    while process.poll() is None:
        if sum(bags_of(results).values()) >= whole / 2:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return True
        time.sleep(0.2)
    return False


def run(folder: Path, out: Path, cores: int, room: float, targets: list[str]) -> dict[str, Any]:
    """All of it; what was measured.

    Args:
        room: of all slides' bytes, what may be on the disk at a time.
        targets: instead of the report.

    Raises:
        subprocess.CalledProcessError: a command failed.
        AssertionError: slides took more room than they may, or stayed.
    """
    out.mkdir(parents=True, exist_ok=True)
    measured, started = Measured(), time.monotonic()
    with running() as proxy:
        slides, total = put_all(proxy, folder)
        sheet = ["sheet", "camelyon17", "--labels", str(folder / "stages.csv")]
        sheet += ["--version", "challenge", "--reason", "the slides are synthetic"]
        wsi_ncmi = [sys.executable, "-m", "wsi_ncmi.cli"]
        sheet += ["--out", str(out / "slides.tsv")]
        subprocess.run([*wsi_ncmi, *sheet], cwd=ROOT, check=True)
        budget = round(room * total)
        own = write_config(out, folder, proxy.endpoint, budget)
        command = [sys.executable, "-m", "snakemake", *targets, "--quiet", "rules"]
        command += ["--cores", str(cores), "--config", f"results={out.parent}"]
        command += ["--configfile", str(ROOT / "config" / f"{COHORT}.yaml"), str(own)]
        proxy.faults = faults(measured, 4 * total // 1_000_000 + 40 * slides)
        with watching(out / "slides", measured):
            killed = killed_half_way(command, out, slides)
            if killed:
                subprocess.run([*command, "--unlock"], cwd=ROOT, check=True)
            subprocess.run(command, cwd=ROOT, check=True)
        requests = Counter(method for method, _ in proxy.seen)
    left = [path.name for path in (out / "slides").rglob("*.tif*")]
    assert measured.most_bytes <= budget, (measured.most_bytes, budget)
    assert not left, left
    return {
        "slides": slides,
        "slides_bytes": total,
        "disk_budget_bytes": budget,
        "most_bytes_on_disk": measured.most_bytes,
        "killed_half_way": killed,
        "requests": dict(requests),
        "faults_met": dict(measured.faults),
        "bags": bags_of(out),
        "minutes": round((time.monotonic() - started) / 60, 2),
        "cores": cores,
    }


def main() -> None:
    """From the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bucket", type=Path, required=True, help="what the demo command wrote")
    parser.add_argument("--out", type=Path, required=True, help=f"results/{COHORT}")
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--room", type=float, default=0.4, help="of the slides' bytes, at a time on the disk"
    )
    parser.add_argument("--target", action="append", default=[], help="instead of the report")
    given = parser.parse_args()
    if given.out.name != COHORT:
        parser.error(f"--out: found {given.out}, expected a folder {COHORT}")
    found = run(given.bucket.resolve(), given.out.resolve(), given.cores, given.room, given.target)
    (given.out / "fetch.json").write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
