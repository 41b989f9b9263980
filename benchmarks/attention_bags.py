"""Slides made of real tiles, whose lesion tiles are known (docs/results.md, H7).

    python benchmarks/attention_bags.py --out results/attention-bags
    wsi-ncmi bags sheet --packed results/attention-bags/bags.h5 \\
        --out results/attention-bags/sheet.tsv

The tiles are LC25000's of the lung (docs/real-data.md), their features those of a MobileNetV2 that
was trained on ImageNet, projected at random to fewer numbers. The pictures that the tiles are made
of are dealt to sites, and a slide takes all of its tiles from one site. A site is the slides'
patient: no picture is in two parts of a split. A benign slide has benign tiles alone, the others
have a small share of lesion tiles among them.

Writes `bags.h5` (packed layout) and `lesions.tsv`, which says of every instance whose picture it
is and whether that shows a lesion.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from many_tasks_data import Tiles, lung_tiles, mobilenet_features
from numpy.typing import NDArray

from wsi_ncmi.bags.foreign.discover import FoundBag
from wsi_ncmi.bags.foreign.layouts import ForeignBag
from wsi_ncmi.bags.foreign.repack import Inspected, inspect, write_packed
from wsi_ncmi.evaluation.metrics import Ints
from wsi_ncmi.files.frame import write_frame

BENIGN = "lung_n"
CLASSES = {"benign": BENIGN, "adenocarcinoma": "lung_aca", "squamous": "lung_scc"}
ORIENTATIONS = 8


@dataclass(frozen=True)
class Recipe:
    """How slides are made.

    Attributes:
        sites: among which the pictures of each kind are dealt.
        slides: of each class at a site.
        tiles: least and largest number of a slide's tiles.
        share: least and largest share of lesion tiles in a slide that has any.
        width: of the projected features.
        seed: of all that is drawn.
    """

    sites: int = 30
    slides: int = 1
    tiles: tuple[int, int] = (60, 180)
    share: tuple[float, float] = (0.03, 0.2)
    width: int = 16
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Slide:
    """A made slide.

    Attributes:
        tile: row of each instance's tile `[N]`.
        orientation: in which it is seen, 0 to 7 `[N]`.
        lesion: whether it shows a lesion `[N]`.
    """

    slide_id: str
    label: str
    site: str
    tile: Ints
    orientation: Ints
    lesion: NDArray[np.bool_]


def sites_of(tiles: Tiles, count: int, rng: np.random.Generator) -> dict[str, int]:
    """The site of each picture: those of each kind are dealt in turn, in random order."""
    found = {}
    for kind in CLASSES.values():
        pictures = sorted({g for g, k in zip(tiles.groups, tiles.labels, strict=True) if k == kind})
        found |= {pictures[p]: i % count for i, p in enumerate(rng.permutation(len(pictures)))}
    return found


def made(tiles: Tiles, recipe: Recipe) -> Iterator[Slide]:
    """All slides, site by site."""
    rng = np.random.default_rng(recipe.seed)
    place = sites_of(tiles, recipe.sites, rng)
    site, kind = np.array([place[g] for g in tiles.groups]), np.array(tiles.labels)
    for s in range(recipe.sites):
        for label, lesion in CLASSES.items():
            for number in range(recipe.slides):
                own = [np.flatnonzero((site == s) & (kind == k)) for k in (BENIGN, lesion)]
                name = f"site{s:02d}-{label}-{number}"
                yield _slide(name, label, f"site{s:02d}", own, recipe, rng)


def _slide(
    name: str,
    label: str,
    site: str,
    own: Sequence[Ints],
    recipe: Recipe,
    rng: np.random.Generator,
) -> Slide:
    """Tiles drawn with replacement from the site's benign and lesion ones."""
    size = rng.integers(recipe.tiles[0], recipe.tiles[1], endpoint=True)
    lesions = max(1, round(size * rng.uniform(*recipe.share)))
    lesion = rng.permutation(size) < (0 if CLASSES[label] == BENIGN else lesions)
    benign, other = (rng.choice(rows, size) for rows in own)
    orientation = rng.integers(ORIENTATIONS, size=size)
    return Slide(name, label, site, np.where(lesion, other, benign), orientation, lesion)


def features_of(tiles: Tiles, weights: Path, recipe: Recipe) -> NDArray[np.float16]:
    """[n, 8, width]: every tile in its eight orientations.

    A projection by normally distributed numbers nearly keeps distances (Johnson and Lindenstrauss
    1984) and, unlike principal components, knows no test tile.
    """
    found = [mobilenet_features(_turned(tiles.pixels, i), weights) for i in range(ORIENTATIONS)]
    wide = np.stack(found, axis=1)
    rng = np.random.default_rng(recipe.seed)
    projection = rng.normal(size=(wide.shape[-1], recipe.width)) / np.sqrt(recipe.width)
    return np.asarray(wide @ projection, np.float16)


def _turned(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Images [n, h, w, 3] turned by quarters, from the fifth orientation on mirrored too."""
    turned = np.rot90(pixels, orientation % 4, axes=(1, 2))
    return np.ascontiguousarray(turned[:, :, ::-1] if orientation >= 4 else turned)


def write(
    slides: Sequence[Slide], features: NDArray[np.float16], groups: list[str], out: Path
) -> None:
    """`bags.h5` and `lesions.tsv`; features [n, 8, D] of the tiles, `groups` their pictures."""
    bags: list[Inspected] = []
    for slide in slides:
        bag = ForeignBag(features[slide.tile, slide.orientation], None, "tiles have no place")
        found = inspect(FoundBag(slide.slide_id, slide.slide_id, partial(_given, bag)))
        assert isinstance(found, Inspected), found
        bags.append(found)
    columns = {"label": [s.label for s in slides], "patient_id": [s.site for s in slides]}
    write_packed(
        out / "bags.h5", bags, columns, {"source": "LC25000 lung, benchmarks/attention_bags.py"}
    )
    rows = [
        pd.DataFrame(
            {
                "slide_id": slide.slide_id,
                "instance": np.arange(len(slide.tile)),
                "picture": [groups[tile] for tile in slide.tile],
                "lesion": slide.lesion.astype(int),
            }
        )
        for slide in slides
    ]
    write_frame(out / "lesions.tsv", pd.concat(rows, ignore_index=True))


def _given(bag: ForeignBag) -> ForeignBag:
    return bag


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    recipe, tiles = Recipe(), lung_tiles(given.shared / "tiles/lc25000_lung_subset.zip")
    weights = given.shared / "weights/mobilenetv2_035_imagenet_keras.safetensors"
    slides = list(made(tiles, recipe))
    write(slides, features_of(tiles, weights, recipe), tiles.groups, given.out)
    share = [s.lesion.mean() for s in slides if s.lesion.any()]
    shown = {tiles.groups[tile] for s in slides for tile in s.tile}
    print(
        f"{len(slides)} slides at {recipe.sites} sites, of {len(shown)} pictures; "
        f"{len(share)} have lesion tiles, {np.mean(share):.1%} of theirs"
    )


if __name__ == "__main__":
    main()
