"""The plan of one synthetic slide: what it is to look like. Nothing here is real.

A slide's looks derive from the seed and its own name and centre alone. Its label decides nothing
but the sizes of its lesions: tissue, stain, scale and defects are drawn without knowing it.
Only the standard library: the Snakefile imports this to plan.
"""

import random
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from wsi_ncmi.provenance import STAGE_VERSIONS, digest

Rgb = tuple[float, float, float]
Defect = Literal["", "no_tissue", "unreadable"]

BASE_MPP = 2.0
TILE_PX = 512
MPP_SPREAD = 0.09
SIDE_UM = (4000.0, 5400.0)

# Greatest diameter in µm: pN's limits are 200 and 2000.
DIAMETER_UM = {"itc": (170.0, 195.0), "micro": (600.0, 1000.0), "macro": (2300.0, 2700.0)}
FOCI_BESIDE = {"itc": (10, 14), "micro": (0, 1), "macro": (0, 2)}
LABELS = ("negative", *DIAMETER_UM)

# Natural optical density in R, G, B of a dark nucleus and of dense cytoplasm; hues about as Ruifrok
# and Johnston (2001) measured them.
HAEMATOXYLIN: Rgb = (1.05, 1.25, 0.55)
EOSIN: Rgb = (0.16, 0.80, 0.40)
PENS = ("blue", "green", "black")


@dataclass(frozen=True)
class DemoSlide:
    """One slide to be painted. Lengths in µm, `width` and `height` in level-0 pixels.

    Attributes:
        shrink: by how much tissue, lesions and artefacts are smaller than those of the demo's
            slides, which are 2 µm/px; cells have their size.
        as_published: whether it is stored as CAMELYON-17's slides are, see `slide.write_slide`.
        is_annotated: whether its lesions are.
    """

    folder: Path
    slide_id: str
    patient_id: str
    centre: str
    label: str
    seed: str
    mpp: float
    width: int
    height: int
    lesions_um: tuple[float, ...] = ()
    pieces: int = 1
    dense: float = 0.5
    fat: float = 0.0
    holes: int = 0
    pen: str = ""
    blurred: bool = False
    haematoxylin: Rgb = HAEMATOXYLIN
    eosin: Rgb = EOSIN
    background: Rgb = (243.0, 243.0, 243.0)
    defect: Defect = ""
    shrink: float = 1.0
    as_published: bool = False
    is_annotated: bool = True

    @property
    def path(self) -> Path:
        return self._folder_of("images") / f"{self.slide_id}.tif"

    @property
    def annotation(self) -> Path | None:
        """The ASAP XML, beside the slide or as the bucket has it; None where there is none.

        The bucket has one of a slide that a label set calls negative, too.
        """
        if not self.is_annotated or not (self.lesions_um or self.as_published):
            return None
        return self._folder_of("annotations") / f"{self.slide_id}.xml"

    def _folder_of(self, kind: str) -> Path:
        return self.folder / kind if self.as_published else self.folder

    @property
    def digest(self) -> str:
        """Of everything that decides the slide's bytes; the folder does not."""
        plan = {key: value for key, value in asdict(self).items() if key != "folder"}
        return digest({"version": STAGE_VERSIONS["demo"], **plan})


@dataclass(frozen=True)
class Centre:
    """Where a slide was stained and scanned: the `index`-th of `count` centres."""

    name: str
    index: int
    count: int

    @property
    def mpp(self) -> float:
        """µm/px of the centre's scanner: 2 within ± 9 %."""
        position = 2 * self.index / max(self.count - 1, 1) - 1
        return round(BASE_MPP * (1 + MPP_SPREAD * position), 4)


def design_slide(
    seed: int, folder: Path, slide_id: str, patient_id: str, label: str, centre: Centre
) -> DemoSlide:
    """Draws in a fixed order; the label's own generator draws the lesions and nothing else."""
    own = f"{seed}/{slide_id}"
    rng, site = random.Random(own), random.Random(f"{seed}/centre/{centre.index}")
    light = site.uniform(238, 247)
    return DemoSlide(
        folder=folder,
        slide_id=slide_id,
        patient_id=patient_id,
        centre=centre.name,
        label=label,
        seed=own,
        mpp=centre.mpp,
        width=int(rng.uniform(*SIDE_UM) / centre.mpp),
        height=int(rng.uniform(*SIDE_UM) / centre.mpp),
        lesions_um=_lesions(random.Random(f"{own}/lesions"), label),
        pieces=rng.choice((1, 1, 2, 3)),
        dense=round(rng.uniform(0.35, 0.8), 3),
        fat=round(rng.choice((0.0, rng.uniform(0.05, 0.15))), 3),
        holes=rng.randint(1, 6),
        pen=rng.choice(PENS) if rng.random() < 0.15 else "",
        blurred=rng.random() < 0.15,
        haematoxylin=_jitter(rng, _jitter(site, HAEMATOXYLIN, 0.08), 0.03),
        eosin=_jitter(rng, _jitter(site, EOSIN, 0.08), 0.03),
        background=(round(light, 1), round(light - 1, 1), round(light + site.uniform(-2, 1), 1)),
    )


def _lesions(rng: random.Random, label: str) -> tuple[float, ...]:
    """Greatest diameters in µm: the one that gives the stage, then foci of isolated cells."""
    if label not in DIAMETER_UM:
        return ()
    foci = rng.randint(*FOCI_BESIDE[label])
    sizes = [rng.uniform(*DIAMETER_UM["itc"]) for _ in range(foci)]
    sizes.append(rng.uniform(*DIAMETER_UM[label]))
    return tuple(round(um, 1) for um in sorted(sizes, reverse=True))


def _jitter(rng: random.Random, ink: Rgb, amount: float) -> Rgb:
    """The ink with another strength and hue, each channel within about `amount`."""
    strength = 1 + rng.uniform(-amount, amount)
    red, green, blue = (c * strength * (1 + rng.uniform(-amount, amount)) for c in ink)
    return round(red, 4), round(green, 4), round(blue, 4)
