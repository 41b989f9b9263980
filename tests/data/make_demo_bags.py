"""Store what the default run made of its slides, for tests/demo.

Run `python tests/data/make_demo_bags.py` after `make demo` whenever the demo's slides, tiling or
encoder change.
"""

from pathlib import Path

import h5py
import numpy as np
import yaml
from PIL import Image

from wsi_ncmi.bags.cache import BagCache
from wsi_ncmi.cohorts.sheet import checked_sheet
from wsi_ncmi.planning.checked import CheckedConfig
from wsi_ncmi.planning.digests import Digests
from wsi_ncmi.tiling.tissue import tissue_mask

ROOT = Path(__file__).resolve().parents[2]


def main(results: Path, out: Path) -> None:
    raw = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())
    checked = CheckedConfig(raw, ROOT / "workflow" / "schemas" / "parts.schema.json")
    cache = BagCache(results / "cache" / checked.config.encoder_folder)
    rows = checked_sheet(results / "slides" / "slides.tsv", need_path=True)
    kept = [row for row in rows if cache.has(row.slide_id)]
    bags = [cache.read([row.slide_id]) for row in kept]
    with h5py.File(out, "w") as file:
        packed = np.concatenate(bags)
        file.create_dataset("features", data=packed, compression="gzip", shuffle=True)
        file["offsets"] = np.cumsum([0, *map(len, bags)])
        for name in ("slide_id", "label", "patient_id", "centre"):
            file[name] = [getattr(row, name).encode() for row in kept]
        file["mean_colour"] = np.array([_mean_colour(results, r.slide_id, checked) for r in kept])
        file.attrs["made_from"] = Digests(checked).bags("stage")
    print(f"{out}: {len(kept)} bags, {packed.shape}, {out.stat().st_size / 1e6:.1f} MB")


def _mean_colour(results: Path, slide_id: str, checked: CheckedConfig) -> np.ndarray:
    thumbnail = np.asarray(Image.open(results / "tiles" / "thumbnails" / f"{slide_id}.jpg"))
    mask = tissue_mask(thumbnail, 8.0, checked.config.tiling.tissue)
    return thumbnail[mask].mean(0)


if __name__ == "__main__":
    main(ROOT / "results" / "demo", Path(__file__).with_name("demo_bags.h5"))
