"""Command `predict`: bags or slides without labels, scored by what was trained."""

import json
import logging
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from wsi_ncmi.bags.checksum import content_digest
from wsi_ncmi.cohorts.sheet import tissue_problems
from wsi_ncmi.errors import BagError, ConfigError, UserError, some
from wsi_ncmi.extraction.encode import pick_device
from wsi_ncmi.files.atomic import discard
from wsi_ncmi.predictions.attention import SlideAttention, attention_path, write_attention
from wsi_ncmi.predictions.conformal import CrossConformal
from wsi_ncmi.tools.predict import bags, output, pictures, slides
from wsi_ncmi.tools.predict.bags import NewBag, NewSample
from wsi_ncmi.tools.predict.bundle import read_bundle, write_bundle
from wsi_ncmi.tools.predict.choice import Asked
from wsi_ncmi.tools.predict.model import ONE_SLIDE, PATIENT, Model
from wsi_ncmi.tools.predict.output import OK, REFUSED, Prediction
from wsi_ncmi.tools.predict.records import read_model
from wsi_ncmi.tools.predict.sections import sections_for
from wsi_ncmi.training.ensemble import Ensemble

log = logging.getLogger(__name__)

ATTENTION, SHEET = "attention", "slides.tsv"

See = Callable[[str, NDArray[np.int32], NDArray[np.float64]], None]
"""(slide_id, coords [N, 2], attention [N]) of a slide whose tiles are attended to, for pictures."""


def run_bags(
    source: Path,
    paths: Sequence[Path],
    out: Path,
    asked: Asked,
    coverage: float,
    sheet: Path | None = None,
    *,
    as_json: bool = False,
) -> int:
    """Score bags and write predictions.tsv and predictions.json.

    Args:
        source: the results of a cohort, or an exported model.
        paths: files and folders of bags.
        coverage: of the prediction sets, above 0 and below 1.
        sheet: slide_id and patient_id, for models that score patients.
        as_json: print predictions.json too.

    Returns:
        1 if some bag was refused; the others are scored.

    Raises:
        UserError: there is no such model, or no bag.
    """
    places, model = bags.find(paths), model_of(source, asked)
    if sheet is not None and model.sample != PATIENT:
        raise UserError("--sheet says whose slides are whose: these models score slides")
    patients = bags.patients_of_sheet(sheet) if sheet is not None else {}
    samples = bags.samples_of(places, patients, whole=sheet is not None)
    return _run(model, samples, out, coverage, as_json)


def run_slides(
    source: Path,
    given: Sequence[str],
    config: Sequence[Path],
    weights: Path | None,
    out: Path,
    asked: Asked,
    coverage: float,
    threads: int,
    *,
    as_json: bool = False,
) -> int:
    """Tile, encode and score slides; heatmaps and attended tiles too, if the models attend.

    Args:
        given: sheets, paths and addresses of slides.
        config: configurations that count in place of the training's record of how bags are made.
        weights: of the encoder, in place of the file that is recorded.
        out: tiles and bags stand below it too; what is finished there is not made again.

    Returns, Raises:
        as `run_bags`.
    """
    rows = slides.rows_of(given)
    slides.check_files(rows, out)
    model = model_of(source, asked)
    sections = sections_for(model, config, weights)
    problems = tissue_problems(rows, sections.tiling.tissue, "--slides")
    if problems:
        raise ConfigError(problems)
    places = slides.make_bags(rows, sections, out, threads)
    slides.write_sheet(rows, out / SHEET)
    see = partial(pictures.draw, work=out, out=out)
    patients = {row.slide_id: row.patient_id for row in rows} if model.sample == PATIENT else {}
    samples = bags.samples_of(places, {s: p for s, p in patients.items() if p})
    return _run(model, samples, out, coverage, as_json, see)


def export(source: Path, asked: Asked, out: Path) -> None:
    """Write the model that is asked for as one file."""
    model = model_of(source, asked)
    write_bundle(model, out)
    members = f"{len(model.contents)} models of {model.arm}"
    print(f"{out}: {members}, task {model.task}, {out.stat().st_size / 1e6:.1f} MB")


def model_of(source: Path, asked: Asked) -> Model:
    """The model of a results folder, or of a file that was exported.

    Raises:
        UserError: there is none; or a choice is made in a file, which holds one arm.
    """
    if not source.is_file():
        return read_model(source, asked)
    if asked != Asked():
        raise UserError(f"{source}: holds one arm: leave --task, --arm and --run out")
    return read_bundle(source)


def _run(
    model: Model,
    samples: Sequence[NewSample],
    out: Path,
    coverage: float,
    as_json: bool,
    see: See | None = None,
) -> int:
    conformal = model.conformal
    notes = [*_kind_notes(model, samples), *_few(conformal, coverage, model.classes)]
    for note in notes:
        log.warning("%s", note)
    scorer = Scorer(model, conformal, coverage, out, see)
    shown = tqdm(samples, unit="bag", file=sys.stderr, mininterval=1, disable=len(samples) < 2)
    found = [scorer.predict(sample) for sample in shown]
    described = conformal.described(coverage, model.classes)
    content = output.document(model.described, described, notes, found)
    output.write(out, content)
    if as_json:
        print(json.dumps(content, indent=2, ensure_ascii=False))
    else:
        _print(model, found, coverage, out, drawn=see is not None)
    return int(any(one.status != OK or one.reason for one in found))


def _kind_notes(model: Model, samples: Sequence[NewSample]) -> list[str]:
    """The model's notes; where patients are scored it is not said that slides are."""
    grouped = any(sample.is_patient for sample in samples)
    return [note for note in model.notes if not (grouped and note == ONE_SLIDE)]


def _few(conformal: CrossConformal, coverage: float, classes: Sequence[str]) -> list[str]:
    names = [classes[y] for y in conformal.always_in(coverage)]
    if not names:
        return []
    return [
        f"too few validation samples of {', '.join(names)} for a coverage of {coverage:g}: "
        "every prediction set holds these classes"
    ]


class Scorer:
    """A model on its device, which predicts one bag after the other.

    Args:
        out: `attention/<slide>.h5` is written below it.
        see: is shown the attention of each slide.
    """

    def __init__(
        self,
        model: Model,
        conformal: CrossConformal,
        coverage: float,
        out: Path,
        see: See | None = None,
    ) -> None:
        self.model, self.conformal, self.coverage = model, conformal, coverage
        self.out, self.see = out, see
        try:
            self.ensemble = Ensemble(model.contents, pick_device())
        except (RuntimeError, KeyError) as error:
            raise UserError(
                f"the weights do not fit the models' configuration ({error}): they are of another "
                "version of wsi-ncmi"
            ) from None

    def predict(self, sample: NewSample) -> Prediction:
        """A sample's prediction, or why there is none.

        As in the training, a patient's bags are one; those that cannot be scored are left out.
        """
        read, reasons = [], []
        for place in sample.places:
            discard(self._attention_path(place.slide_id))  # of an earlier run, of other models
            try:
                bag = place.read()
                reason = bags.refusal(bag, self.model)
            except BagError as error:
                reason = str(error)
            if reason:
                log.warning("slide %s: %s", place.slide_id, reason)
                named = f"slide {place.slide_id}: " if len(sample.places) > 1 else ""
                reasons.append(f"{named}{reason}")
            else:
                read.append((place.slide_id, bag))
        if not read:
            return Prediction(sample.sample_id, REFUSED, "; ".join(reasons))
        return replace(self._scored(sample.sample_id, read), reason="; ".join(reasons))

    def _scored(self, sample_id: str, read: Sequence[tuple[str, NewBag]]) -> Prediction:
        classes = self.model.classes
        scored = self.ensemble.score([bag.features for _, bag in read])
        p_values = self.conformal.p_values(scored.probabilities)
        in_set = self.conformal.inside(p_values, self.coverage)
        distances = [self._distance(bag) for _, bag in read]
        known = [distance for distance in distances if distance is not None]

        def named(values: Sequence[float]) -> dict[str, float]:
            return {name: float(v) for name, v in zip(classes, values, strict=True)}

        return Prediction(
            sample_id,
            OK,
            "",
            sum(len(bag.features) for _, bag in read),
            classes[int(scored.mean.argmax())],
            [name for name, inside in zip(classes, in_set, strict=True) if inside],
            named(scored.mean.tolist()),
            named(scored.spread.tolist()),
            named(p_values.tolist()),
            max(known, default=None),
            self._unusual(read, distances),
            content_digest(np.concatenate([bag.features for _, bag in read])),
            [name for name in self._attended(read, scored.attention) if name],
            [slide_id for slide_id, _ in read],
        )

    def _distance(self, bag: NewBag) -> float | None:
        ordinary = self.model.ordinary
        return None if ordinary is None else ordinary.distance(bag.features)

    def _unusual(
        self, read: Sequence[tuple[str, NewBag]], distances: Sequence[float | None]
    ) -> list[str]:
        """Of each slide; of a patient with several, its name says which."""
        return [
            f"slide {slide_id}: {text}" if len(read) > 1 else text
            for (slide_id, bag), distance in zip(read, distances, strict=True)
            for text in bags.unusual(bag, distance, self.model)
        ]

    def _attended(
        self, read: Sequence[tuple[str, NewBag]], attention: NDArray[np.float64] | None
    ) -> Iterator[str]:
        """Slide by slide, whose shares of the attention sum to one each."""
        if attention is None:
            return
        ends = np.cumsum([len(bag.features) for _, bag in read])
        for (slide_id, bag), own in zip(read, np.split(attention, ends[:-1]), strict=True):
            total = own.sum()
            yield self._attend(slide_id, bag.coords, own / total if total > 0 else own)

    def _attend(
        self,
        slide_id: str,
        coords: NDArray[np.int32] | None,
        attention: NDArray[np.float64],
    ) -> str:
        """Write and show where the models look; the file's name, "" without places of tiles."""
        if coords is None:
            return ""
        path, weights = self._attention_path(slide_id), attention.astype(np.float32)
        write_attention(path, SlideAttention(slide_id, coords, {self.model.arm: weights}))
        if self.see is not None:
            self.see(slide_id, coords, attention)
        return str(path.relative_to(self.out))

    def _attention_path(self, slide_id: str) -> Path:
        return attention_path(self.out / ATTENTION, slide_id)


def _print(
    model: Model, found: Sequence[Prediction], coverage: float, out: Path, *, drawn: bool
) -> None:
    print(f"task {model.task}, {model.arm}, {len(model.contents)} models; sets at {coverage:g}")
    for one in found:
        if one.status != OK:
            print(f"{one.slide_id}: refused: {one.reason}")
            continue
        sure = f"{one.predicted} {one.probabilities[one.predicted]:.3f}"
        spread = f"± {one.spread[one.predicted]:.3f}"
        held = ", ".join(one.classes) or "none: unlike every class"
        left_out = f"; LEFT OUT: {one.reason}" if one.reason else ""
        print(f"{one.slide_id}: {sure} {spread}; set: {held}{left_out}{_but(one)}")
    print(f"{out / 'predictions.tsv'}, {out / 'predictions.json'}")
    if drawn and any(one.attention for one in found):
        print(f"heatmaps: {out / pictures.HEATMAPS}")
    print(f"look at them: wsi-ncmi view {shlex.quote(str(out))}")


def _but(one: Prediction) -> str:
    return f"; UNUSUAL: {some(one.unusual)}" if one.unusual else ""


def check_coverage(coverage: float) -> float:
    """The coverage.

    Raises:
        UserError: it is none.
    """
    if not 0 < coverage < 1:
        raise UserError(f"--coverage {coverage:g}: expected a number above 0 and below 1")
    return coverage
