"""Attention in the report: its AUROC against lesions, heatmaps, and the most attended tiles."""

import json
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from wsi_ncmi.files.frame import read_frame
from wsi_ncmi.report.lesions import froc_blocks, size_blocks
from wsi_ncmi.report.page import Block, Heading, Picture, Section, Table, Text, facts
from wsi_ncmi.report.viewer import HOW, slide_link
from wsi_ncmi.report.wording import arm_title, number, title

ANNOTATION_NOTES = "annotation_notes.tsv"
SEPARATOR = "--"  # <slide_id>--<aggregator>--<objective>.png
EXPLAINED = (
    "Colours are ranks within a slide: 100 is the most attended tile. Lesions are outlined where "
    "they are annotated. Attention shows what a model weighs, not why it decides."
)


def attention_section(folder: Path, task: str, labels: Mapping[str, str]) -> Section | None:
    """The attention of a task's models; None if none was computed.

    Args:
        folder: `runs/<task>/attention`: heatmaps/, tiles/, lesion_auroc.tsv, froc.tsv,
            lesion_sizes.tsv, annotation_notes.tsv, summary.json.
        task: its name.
        labels: slide_id -> label, for headings.
    """
    pictures = sorted((folder / "heatmaps").glob("*.png"))
    aurocs = _read_aurocs(folder / "lesion_auroc.tsv")
    notes = _notes_table(folder / ANNOTATION_NOTES)
    if not pictures and aurocs.empty and not notes:
        return None
    blocks: list[Block] = [Text(EXPLAINED, "note"), HOW, *_summary_blocks(folder / "summary.json")]
    if len(aurocs):
        blocks += [_arm_table(aurocs), _slide_table(aurocs)]
    blocks += froc_blocks(_read(folder / "froc.tsv"))
    blocks += size_blocks(_read(folder / "lesion_sizes.tsv"))
    blocks += notes
    slide = ""
    for path in pictures:
        slide_id, aggregator, objective = path.stem.rsplit(SEPARATOR, 2)
        if slide_id != slide:
            label = labels.get(slide_id)
            shown = f"{slide_id} ({label})" if label else slide_id
            blocks.append(Heading(slide_link(slide_id, shown)))
            slide = slide_id
        blocks += _pictures(path, slide_id, (aggregator, objective), aurocs)
    return Section(f"Attention, task {task}", f"attention-{task}", blocks)


def _read_aurocs(path: Path) -> pd.DataFrame:
    columns = ["aggregator", "objective", "slide_id", "label", "tiles", "lesion_tiles", "auroc"]
    if not path.is_file():
        return pd.DataFrame(columns=columns)
    return read_frame(path, {"tiles": int, "lesion_tiles": int, "auroc": float})


def _read(path: Path) -> pd.DataFrame:
    """A table whose columns are numbers but for the arm and the size; empty without the file."""
    if not path.is_file():
        return pd.DataFrame()
    text = read_frame(path)
    names = {"aggregator", "objective", "largest lesion"}
    return text.assign(**{c: pd.to_numeric(text[c]) for c in text.columns if c not in names})


def _notes_table(path: Path) -> list[Block]:
    """What of the annotations does not count, and why."""
    found = read_frame(path).to_numpy(str).tolist() if path.is_file() else []
    rows = [[slide_link(slide), *rest] for slide, *rest in found]
    return [Table("Notes on the annotations.", ["slide", "note"], rows, 2)] if rows else []


def _summary_blocks(path: Path) -> list[Block]:
    if not path.is_file():
        return []
    found = json.loads(path.read_text())
    values = {title(k): str(v) for k, v in found.items() if not isinstance(v, dict | list)}
    return [facts("How the attention was made.", values)] if values else []


def _arm_table(aurocs: pd.DataFrame) -> Table:
    body = []
    for key, part in aurocs.dropna(subset=["auroc"]).groupby(
        ["aggregator", "objective"], sort=False
    ):
        values = part["auroc"]
        spread = f"{number(values.min())} to {number(values.max())}"
        body.append([title(key[0]), title(key[1]), str(len(part)), number(values.mean()), spread])
    return Table(
        "AUROC of attention against the annotated lesions (0.5: attention ignores them), over "
        "slides with tiles both inside and outside of a lesion.",
        ["aggregator", "objective", "slides", "mean", "range"],
        body,
        2,
    )


def _slide_table(aurocs: pd.DataFrame) -> Table:
    body = [
        [
            slide_link(row["slide_id"]),
            row["label"],
            title(row["aggregator"]),
            title(row["objective"]),
            f"{row['tiles']:.0f}",
            f"{row['lesion_tiles']:.0f}",
            number(row["auroc"]),
        ]
        for _, row in aurocs.sort_values("slide_id", kind="stable").iterrows()
    ]
    header = ["slide", "label", "aggregator", "objective", "tiles", "in a lesion", "AUROC"]
    return Table("AUROC of attention, slide by slide.", header, body, 4)


def _pictures(
    heatmap: Path, slide_id: str, arm: tuple[str, str], aurocs: pd.DataFrame
) -> list[Block]:
    own = aurocs[
        (aurocs["slide_id"] == slide_id)
        & (aurocs["aggregator"] == arm[0])
        & (aurocs["objective"] == arm[1])
    ]
    caption = arm_title(*arm)
    if len(own):
        caption += f"; AUROC of attention against the lesion {number(own['auroc'].iloc[0])}"
    blocks: list[Block] = [
        Picture.of(heatmap, f"attention of {arm_title(*arm)} on slide {slide_id}", caption)
    ]
    strip = heatmap.parent.parent / "tiles" / heatmap.name
    if strip.is_file():
        text = "The most attended tiles, with their share of all attention."
        blocks.append(Picture.of(strip, f"most attended tiles of slide {slide_id}", text))
    return blocks
