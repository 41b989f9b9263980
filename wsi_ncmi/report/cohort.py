"""The cohort in the report: slides by centre and label, their scale, their tiles, and failures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from wsi_ncmi.cohorts.sheet import SlideRow, bucket_of
from wsi_ncmi.fetch.places import NOT_AGAIN
from wsi_ncmi.files.frame import read_frame
from wsi_ncmi.report.page import Block, Gallery, Picture, Section, Table, Text
from wsi_ncmi.report.viewer import HOW, slide_link
from wsi_ncmi.report.wording import number

UNLABELLED = "no label"
OVERLAYS = 6
READERS = (
    "Slides read natively give the pixels that OpenSlide gives, decoded by the same library, with "
    "one exception by design: where a tile's corner lies between two pixels of the level that is "
    "read, native reads at the nearest whole pixel (at most half a pixel of that level away), and "
    "OpenSlide interpolates, which blurs. Halved levels (native_half) are scaled inside of the "
    "JPEG decoder and differ by some grey levels from averaging."
)


def read_buckets(folder: Path, rows: Sequence[SlideRow], buckets: int) -> pd.DataFrame:
    """The sheet's slides in the manifests of a folder, as text, sorted; empty without any.

    Manifests of another number of buckets may still lie there: each slide has one bucket.
    """
    names = sorted({bucket_of(row.slide_id, buckets) for row in rows})
    paths = [p for p in (folder / f"bucket-{b}.tsv" for b in names) if p.is_file()]
    read = [read_frame(path) for path in paths]
    if not read:
        return pd.DataFrame(columns=["slide_id", "status", "reason"])
    table = pd.concat(read)
    table = table[table["slide_id"].isin({row.slide_id for row in rows})]
    return table.sort_values("slide_id").reset_index(drop=True)


def read_index(path: Path) -> pd.DataFrame:
    """The cache's index, as text; empty without one."""
    if not path.is_file():
        return pd.DataFrame(columns=["slide_id", "status", "reason", "count"])
    return read_frame(path)


def cohort_section(
    rows: Sequence[SlideRow],
    classes: Sequence[str],
    tiles: pd.DataFrame,
    index: pd.DataFrame,
    overlays: Path,
) -> Section:
    """Who is in the cohort, at what scale it was read, and what of it was used.

    Args:
        rows: the slide sheet.
        classes: of all tasks in their order; labels of no task stand behind them.
        tiles: all rows of the tiles manifests; empty where bags were given.
        index: the cache's index.
        overlays: folder of `<slide_id>.jpg`; may not exist.
    """
    sheet = pd.DataFrame([row.as_dict() for row in rows])
    blocks: list[Block] = [_label_table(sheet, classes)]
    if len(tiles):
        blocks += [_scale_table(sheet, tiles), _reader_table(tiles), Text(READERS)]
        blocks += [*_notes(tiles), *_unseen(tiles), _slide_table(sheet, tiles), HOW]
    elif len(index):
        blocks += [_bag_table(sheet, index)]
    pictures = _overlay_pictures(overlays, sheet)
    if pictures:
        text = "Tissue and the tiles that were read, on slides picked evenly from the sheet:"
        blocks += [Text(text), Gallery(pictures)]
    return Section("The cohort", "cohort", blocks)


def _label_table(sheet: pd.DataFrame, classes: Sequence[str]) -> Table:
    sheet = sheet.assign(label=sheet["label"].replace("", UNLABELLED))
    found = set(sheet["label"])
    labels = [name for name in dict.fromkeys([*classes, *sorted(found)]) if name in found]
    counts = pd.crosstab(sheet["centre"], sheet["label"])[labels]
    patients = sheet.groupby("centre")["patient_id"].nunique()
    body = [
        [
            centre,
            str(patients[centre]),
            str(counts.loc[centre].sum()),
            *map(str, counts.loc[centre]),
        ]
        for centre in counts.index
    ]
    totals = [sheet["patient_id"].nunique(), len(sheet), *counts.sum()]
    body.append(["all", *map(str, totals)])
    caption = "Patients and slides by centre, and slides by label."
    return Table(caption, ["centre", "patients", "slides", *labels], body)


def _scale_table(sheet: pd.DataFrame, tiles: pd.DataFrame) -> Table:
    table = tiles.merge(sheet[["slide_id", "centre"]], on="slide_id")
    for column in ("mpp", "tiles", "scale_error_percent"):
        table[column] = pd.to_numeric(table[column])
    used = table[table["status"] == "ok"]
    body = [_scale_row(centre, part) for centre, part in used.groupby("centre")]
    if len(used):
        body.append(_scale_row("all", used))
    return Table(
        "Tiled slides: µm per pixel at level 0 and where it was read from (slides), the largest "
        "error of the scale that was read, and tiles per slide.",
        ["centre", "µm/px from", "slides", "µm/px", "scale error", "tiles: median (range)"],
        body,
        text_columns=2,
    )


def _scale_row(centre: object, part: pd.DataFrame) -> list[str]:
    sources = part["mpp_source"].value_counts().sort_index()
    return [
        str(centre),
        ", ".join(f"{source} ({count})" for source, count in sources.items()),
        str(len(part)),
        _range(part["mpp"], 3),
        f"{number(part['scale_error_percent'].abs().max(), 2)} %",
        _median(part["tiles"]),
    ]


def _reader_table(tiles: pd.DataFrame) -> Table:
    """By reader, and why it was not the native one."""
    used = tiles[tiles["status"] == "ok"]
    body = []
    for (reader, reason), part in used.groupby(["reader", "reader_reason"]):
        downsample = pd.to_numeric(part["level_downsample"])
        residual = pd.to_numeric(part["residual"])
        cells = [str(reader), str(reason), str(len(part)), _range(downsample, 2)]
        body.append([*cells, _range(pd.to_numeric(part["read_px"]), 0), _range(residual, 4)])
    return Table(
        "How the slides were read: the downsample of the level, the pixels of a tile's side that "
        "are read from it, and the resampling that is left for the encoder's input (wanted µm/px "
        "over the level's).",
        ["reader", "why not native", "slides", "downsample", "pixels read", "resampling"],
        body,
        text_columns=2,
    )


def _notes(tiles: pd.DataFrame) -> list[Block]:
    """Slides that can be used and are worth a look."""
    tiles = tiles[tiles["status"] != "unreadable"]
    unread = pd.to_numeric(tiles["unreadable_fraction"]).fillna(0)
    damaged = unread.map(lambda part: f"{part:.2%} of it cannot be decoded" if part else "")
    notes = (damaged + "; " + tiles["note"]).str.strip("; ")
    found = zip(tiles["slide_id"], notes, strict=True)
    body = [[slide_link(slide), note] for slide, note in found if note]
    if not body:
        return []
    return [Table("Slides worth a look.", ["slide", "what was found"], body, text_columns=2)]


def _slide_table(sheet: pd.DataFrame, tiles: pd.DataFrame) -> Table:
    """Every slide, with the way to it."""
    table = sheet.merge(tiles[["slide_id", "status", "tiles"]], on="slide_id")
    columns = ["label", "patient_id", "centre", "status", "tiles"]
    body = [
        [slide_link(slide), *map(str, rest)]
        for slide, *rest in table[["slide_id", *columns]].to_numpy().tolist()
    ]
    header = ["slide", "label", "patient", "centre", "status", "tiles"]
    return Table("All slides.", header, body, text_columns=5)


def _unseen(tiles: pd.DataFrame) -> list[Block]:
    """Slides whose results are of an earlier run."""
    if "unreachable" not in tiles:
        return []
    unseen = tiles[~tiles["unreachable"].isin(["", NOT_AGAIN])]
    found = unseen[["slide_id", "unreachable"]].astype(str).to_numpy().tolist()
    body = [[slide_link(slide), why] for slide, why in found]
    if not body:
        return []
    caption = "Slides that could not be reached in the last run; their finished results stand."
    return [Table(caption, ["slide", "why"], body, text_columns=2)]


def _bag_table(sheet: pd.DataFrame, index: pd.DataFrame) -> Table:
    table = index.merge(sheet[["slide_id", "centre"]], on="slide_id")
    table["count"] = pd.to_numeric(table["count"])
    used = table[table["status"] == "ok"]
    body = [[str(c), str(len(p)), _median(p["count"])] for c, p in used.groupby("centre")]
    if len(used):
        body.append(["all", str(len(used)), _median(used["count"])])
    caption = "Bags and their instances (feature vectors)."
    return Table(caption, ["centre", "bags", "instances: median (range)"], body)


def _range(values: pd.Series, digits: int) -> str:
    low, high = number(values.min(), digits), number(values.max(), digits)
    return low if low == high else f"{low} to {high}"


def _median(values: pd.Series) -> str:
    return f"{values.median():.0f} ({values.min():.0f} to {values.max():.0f})"


def _overlay_pictures(folder: Path, sheet: pd.DataFrame) -> list[Picture]:
    facts = sheet.set_index("slide_id")
    paths = [path for path in sorted(folder.glob("*.jpg")) if path.stem in facts.index]
    count = min(OVERLAYS, len(paths))
    chosen = [paths[i * len(paths) // count] for i in range(count)]
    return [
        Picture.of(
            path,
            f"tissue and tiles of slide {path.stem}",
            slide_link(
                path.stem,
                f"{path.stem}: {facts.loc[path.stem, 'centre']}, "
                f"{facts.loc[path.stem, 'label'] or UNLABELLED}",
            ),
        )
        for path in chosen
    ]


@dataclass(frozen=True)
class Bags:
    """What became of the slides under one encoder.

    Attributes:
        features: the rows of its buckets' manifests; empty where bags were given.
        index: that of its cache.
    """

    features: pd.DataFrame
    index: pd.DataFrame


def encoder_table(made: Mapping[str, Bags], tasks: Mapping[str, Sequence[str]]) -> Table:
    """Encoders by name: their bags, instances per bag, and the tasks on them."""
    body = []
    for name, bags in made.items():
        counts = pd.to_numeric(bags.index.loc[bags.index["status"] == "ok", "count"])
        middle = _median(counts) if len(counts) else "–"
        body.append([name, ", ".join(tasks[name]) or "none", str(len(counts)), middle])
    caption = "The encoders, the tasks on their features, and their bags."
    header = ["encoder", "tasks", "bags", "instances: median (range)"]
    return Table(caption, header, body, text_columns=2)


def failures(tiles: pd.DataFrame, features: pd.DataFrame, index: pd.DataFrame) -> pd.DataFrame:
    """Slides without a bag: slide_id, stage, status, reason; the first stage that failed counts."""
    found = [
        table.loc[table["status"] != "ok", ["slide_id", "status", "reason"]].assign(stage=stage)
        for stage, table in (("tiles", tiles), ("features", features), ("bags", index))
    ]
    return pd.concat(found).drop_duplicates("slide_id").sort_values("slide_id")


def failure_section(tiles: pd.DataFrame, made: Mapping[str, Bags]) -> Section:
    """Failed slides with reasons, and tiles that could not be decoded.

    Args:
        made: encoder -> what became of the slides. Of several, a slide that was not tiled is a row
            of all; one that failed later is a row of its encoder.
    """
    failed = _all_failures(tiles, made)
    columns = ["slide_id", "stage", "status", "reason"]
    blocks: list[Block] = [Text("Every slide of the sheet has a bag.")]
    if len(failed):
        found = failed[columns].astype(str).to_numpy().tolist()
        body = [[slide_link(slide), *rest] for slide, *rest in found]
        caption = "Slides that nothing was trained or tested on."
        if len(made) > 1:
            caption = "Slides that nothing was trained or tested on, of all encoders or of one."
        blocks = [Table(caption, ["slide", "stage", "status", "reason"], body, 4), HOW]
    for name, bags in made.items():
        of = f" under {name}" if len(made) > 1 else ""
        blocks += _undecoded(bags.features, of)
    return Section("Failed slides", "failed", blocks)


def _all_failures(tiles: pd.DataFrame, made: Mapping[str, Bags]) -> pd.DataFrame:
    tables = []
    for name, bags in made.items():
        found = failures(tiles, bags.features, bags.index)
        later = found["stage"] != "tiles"
        if len(made) > 1:
            found.loc[later, "stage"] = found.loc[later, "stage"] + f", {name}"
        tables.append(found)
    columns = ["slide_id", "stage"]
    return pd.concat(tables).drop_duplicates(columns).sort_values(columns)


def _undecoded(features: pd.DataFrame, of: str) -> list[Block]:
    """A warning where tiles have no features."""
    if "invalid" not in features:
        return []
    invalid = pd.to_numeric(features["invalid"]).fillna(0)
    slides = features.loc[invalid > 0, "slide_id"]
    if not len(slides):
        return []
    text = f"{invalid.sum():.0f} tiles of {len(slides)} slides could not be decoded and "
    text += f"have no features{of}: {', '.join(slides[:10])}{' …' if len(slides) > 10 else ''}."
    return [Text(text, "warning")]
