"""Digests of all that decides a step, by which the workflow knows what to run again.

They follow the same things as the digests in the results themselves, but look at files from
outside: size and time stand for the content that a stage will read.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from wsi_ncmi.address import is_remote
from wsi_ncmi.cohorts.sheet import SlideRow, bucket_of
from wsi_ncmi.errors import ConfigError
from wsi_ncmi.files.product import Product
from wsi_ncmi.files.tree import state_below
from wsi_ncmi.planning.checked import Cohort
from wsi_ncmi.planning.settings import SPLITTING, Settings
from wsi_ncmi.provenance import digest, sha256_file
from wsi_ncmi.tiling.seen import Seen, State, decided_by, file_state, read_seen, slide_state


class Digests:
    """What decides the tiles, bags, splits and models of a checked configuration."""

    def __init__(self, checked: Cohort) -> None:
        self._checked, self._config = checked, checked.config
        self._settings = Settings(checked)
        # Looked up once: every job's params ask for it, and all of a run are to see the same.
        self._state = cache(file_state)
        self._folder_state = cache(state_below)
        self._files_state = cache(lambda path: slide_state(path, self._state))
        self._seen_in = cache(self._read_seen)
        self._seen_of = cache(self._read_encoded)
        self._slides: dict[str, Any] = {}
        self._of_bucket = cache(self._digest_of_bucket)
        self._of_splits = cache(self._digest_of_splits)
        self._of_bags = cache(self._digest_of_bags)

    def is_settled(self, stamp: str, wanted: str) -> bool:
        """Whether a job's stamp, written when it last succeeded, says what it would say now."""
        return Product(wanted, Path(stamp), Path.read_text).is_current

    def bucket(self, bucket: int) -> str:
        """Of all that decides the tiles of a bucket's slides: labels do not."""
        return self._of_bucket(bucket)

    def tiles(self, bucket: int) -> str:
        """Of all that decides a bucket's tile files."""
        return digest([self.bucket(bucket), self._settings.versions("tiles")])

    def features(self, bucket: int, encoder: str) -> str:
        """Of all that decides the slides of a bucket for an encoder's bags.

        A run in which another encoder than the first could not see a slide makes no tiles again.
        """
        own, missed = self.bucket(bucket), self._missed(bucket, encoder)
        return digest([own, missed]) if missed else own

    def encoding(self, encoder: str) -> str:
        """Of all that decides bags beside a slide and its tiling: by it a slide is finished."""
        return digest([*self._encoder(encoder), self._settings.versions("tiles", "features")])

    def splits(self, name: str) -> str:
        """Of all that decides a task's splits."""
        return self._of_splits(name)

    def train(self, name: str) -> str:
        """Of all that decides a task's training, whatever the seed."""
        task, version = self._settings.training(name), self._settings.versions("train")
        names = [self._config.cohort, self._config.encoder_of(name)]
        return digest([task, names, self.splits(name), self.bags(name), version])

    def bags(self, name: str) -> str:
        """Of all that decides the bags of a task: slides, tiling, extraction, or imported bags."""
        return self._of_bags(name)

    def rows(self, rows: Sequence[SlideRow]) -> str:
        """Changes when a row changes or its slide is replaced, not when the sheet is touched."""
        if self._checked.reads_slides:
            states = [self._slide(row) for row in rows]
        else:
            states = [self._slide_state(row) for row in rows]
        said = [row.as_dict() for row in (*rows, *self._checked.excluded)]
        return digest([said, states])

    @property
    def searched(self) -> str:
        """Of what the searches of all arms found: the report says it."""
        log = Path(self._checked.root) / "search" / "search.tsv"
        return digest(log.read_text() if log.is_file() else "")

    def imported(self, rows: Sequence[SlideRow], encoder: str) -> str:
        """Of an encoder's bags that exist already: sizes and times of the packed file or of each
        slide's.
        """
        if self._config.bags is None:
            return ""
        bags = self._config.bags.of(encoder)
        path = Path(bags.path)
        files = [path]
        if bags.format != "packed":
            files = [path / f"{row.slide_id}.{bags.format}" for row in rows]
        states = [self._state(str(file)) for file in files]
        return digest([bags.model_dump(), [row.slide_id for row in rows], states])

    def annotations(self, name: str) -> str:
        """Of the annotations of a task's slides; an edited file counts like one that is new."""
        rows = [row for row in self._checked.task_rows(name) if row.annotation]
        return digest([[row.slide_id, self._annotation_state(row)] for row in rows])

    def joined_labels(self, name: str) -> str:
        """Of the sheet's labels in a task on slides whose classes join several; "" of others."""
        task = self._config.tasks.get(name)
        if task is None or not task.merge_classes or task.sample != "slide":
            return ""
        rows = [row for row in self._checked.rows if row.label in task.labels]
        return digest([[row.slide_id, row.label] for row in rows])

    def labels(self, name: str) -> str:
        """Of what the sheet says of a task's slides beside their files."""
        rows = self._checked.task_rows(name)
        return digest([[row.slide_id, row.label, row.patient_id, row.centre] for row in rows])

    def images(self, name: str) -> str:
        """Of the files of an image task: an archive's size and time, or those of all in a folder.

        Raises:
            ConfigError: a folder cannot be read.
        """
        path = self._config.images[name].path
        if not Path(path).is_dir():
            return digest([path, self._state(path)])
        try:
            return digest([path, self._folder_state(Path(path))])
        except OSError as error:
            raise ConfigError([f"images.{name}.path: cannot be read: {error}"]) from error

    def weights(self, encoder: str) -> Any:
        """Size and time of an encoder's local weights, so that replaced ones are noticed."""
        return self._state(self._config.extraction.of(encoder).weights or "")

    def _encoder(self, encoder: str) -> list[Any]:
        """All that decides bags of the same tiles."""
        extraction = self._config.extraction.of(encoder)
        decides = extraction.model_dump(exclude={"any_scale"})  # which only refuses
        return [decides, self.weights(encoder)]

    def _digest_of_bucket(self, bucket: int) -> str:
        return digest([self._slide(row) for row in self._checked.buckets[bucket]])

    def _digest_of_splits(self, name: str) -> str:
        task = self._config.tasks[name].model_dump(include=SPLITTING)
        given = task["protocol"]["file"]
        content = sha256_file(Path(given)) if given else ""
        rows = self._checked.task_rows(name)
        labels = [[row.slide_id, row.label, row.patient_id, row.centre] for row in rows]
        if task["protocol"]["kind"] == "official":
            labels += [[row.slide_id, row.split] for row in rows]
        return digest([task, content, labels, self._settings.versions("splits")])

    def _digest_of_bags(self, name: str) -> str:
        rows = self._checked.task_rows(name)
        if self._config.bags:
            return self.imported(rows, self._config.encoder_of(name))
        versions = self._settings.versions("tiles", "features")
        encoder = self._config.encoder_of(name)
        slides = [self._slide(row) for row in rows]
        missed = self._missed_of(rows, encoder)
        of_slides = [slides, missed] if missed else slides
        return digest([of_slides, *self._encoder(encoder), versions])

    def _slide(self, row: SlideRow) -> Any:
        """All that decides a slide's tiles: found once, as each of its tasks' jobs asks for it."""
        if row.slide_id not in self._slides:
            self._slides[row.slide_id] = self._deciding(row)
        return self._slides[row.slide_id]

    def _deciding(self, row: SlideRow) -> Any:
        """See `_slide`.

        What is gone, and was there when the slide was finished with these settings, counts as it
        was: nothing runs again for a slide that was put away.
        """
        tiling, seen = self._config.tiling, self._seen(row)
        slide = self._slide_state(row)
        now = decided_by(row, tiling, slide, self._state)
        if seen.digest:
            last = decided_by(
                row,
                tiling,
                slide or seen.files.get(row.path),
                lambda path: self._state(path) or seen.files.get(path),
            )
            if digest(last) == seen.digest:
                return [*last, seen.missed]
        # Of a local file that is still not there it is known that trying is in vain.
        return [*now, seen.missed if slide or is_remote(row.path) else 0]

    def _seen(self, row: SlideRow) -> Seen:
        """What the stages saw of a slide."""
        bucket = bucket_of(row.slide_id, self._config.buckets)
        tiled, encoded = (found.get(row.slide_id, Seen()) for found in self._seen_in(bucket))
        return replace(tiled, missed=tiled.missed + encoded.missed)

    def _read_seen(self, bucket: int) -> list[dict[str, Seen]]:
        encoder = self._config.encoder_folder
        return [read_seen(self._manifest("tiles", bucket)), self._seen_of(bucket, encoder)]

    def _manifest(self, folder: str, bucket: int) -> Path:
        return Path(self._checked.root, folder, f"bucket-{bucket}.tsv")

    def _read_encoded(self, bucket: int, encoder: str) -> dict[str, Seen]:
        return read_seen(self._manifest(f"features/{encoder}", bucket))

    def _missed(self, bucket: int, encoder: str) -> dict[str, int]:
        return self._missed_of(self._checked.buckets[bucket], encoder)

    def _missed_of(self, rows: Sequence[SlideRow], encoder: str) -> dict[str, int]:
        """Slide -> runs in which an encoder could not see it; of the first, tiles say it too."""
        if encoder == self._config.encoder_folder:
            return {}
        found = {}
        for row in rows:
            seen = self._seen_of(bucket_of(row.slide_id, self._config.buckets), encoder)
            found[row.slide_id] = seen.get(row.slide_id, Seen()).missed
        return {name: missed for name, missed in found.items() if missed}

    def _slide_state(self, row: SlideRow) -> State:
        return self._demo_state or self._files_state(row.path)

    def _annotation_state(self, row: SlideRow) -> Any:
        return self._demo_state or [row.annotation, self._state(row.annotation)]

    @property
    def _demo_state(self) -> list[Any]:
        """What the demo's files follow from, before it has written them; [] for other cohorts."""
        demo = self._config.demo
        return [demo.seed, demo.centres, self._settings.versions("demo")] if demo else []
