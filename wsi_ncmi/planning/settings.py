"""What the rules hand to their commands: sections of the configuration as JSON."""

from typing import Any

from wsi_ncmi.config import SEARCHES
from wsi_ncmi.config.making import Making
from wsi_ncmi.planning.checked import Cohort
from wsi_ncmi.provenance import STAGE_VERSIONS

SPLITTING = {"classes", "merge_classes", "sample", "protocol"}
"""What the splits of a task on bags read of it."""


class Settings:
    """Sections as text, each with what its rule reads and nothing else.

    Snakemake runs a rule again if its params change: a key that a stage does not read must not
    stand in them.
    """

    def __init__(self, checked: Cohort) -> None:
        self._checked = checked

    def versions(self, *stages: str) -> list[int]:
        """Versions of stages' code, for the params of their rules."""
        return [STAGE_VERSIONS[stage] for stage in stages]

    def section(self, name: str) -> str:
        """One section of the configuration."""
        text: str = getattr(self._checked.config, name).model_dump_json()
        return text

    def making(self, encoder: str) -> str:
        """What is recorded of how an encoder's bags are made."""
        config = self._checked.config
        return Making(tiling=config.tiling, extraction=config.extraction.of(encoder)).text

    def extraction(self, encoder: str) -> str:
        """The section `extraction` of one encoder."""
        return self._checked.config.extraction.of(encoder).model_dump_json()

    def bags(self, encoder: str) -> str:
        """The section of the bags of one encoder."""
        bags = self._checked.config.bags
        return bags.of(encoder).model_dump_json() if bags else ""

    def splits(self, name: str) -> str:
        """What the splits of a task on bags read of it."""
        return self._checked.task(name).model_dump_json(include=SPLITTING)

    def image_sources(self) -> dict[str, str]:
        """What names the index of each data set, and the first task on it."""
        tasks = reversed(self._checked.config.images.items())
        return {task.source: name for name, task in tasks}

    @property
    def experiment(self) -> str:
        """What an experiment reads: its tasks, and how they are evaluated."""
        read = {"cohort", "images", "evaluation", "experiment"}
        unread = {"images": {"__all__": {"published"}}}
        return self._checked.config.model_dump_json(include=read, exclude=unread)

    def image_index(self, name: str) -> str:
        """What an index reads of a task: where its images are."""
        return self._checked.task(name).model_dump_json(include={"dataset", "path", "options"})

    def image_splits(self, name: str) -> str:
        """What the splits of an image task read of it: its images, and how many of them."""
        images = {"dataset", "path", "options"}
        parts = {"train_samples", "test_samples", "validation_fraction", "subset_seed"}
        parts |= {"corrupt", "overlap", "merge_classes"}
        return self._checked.task(name).model_dump_json(include=images | parts)

    def external(self, name: str) -> str:
        """What the scores of a second cohort read of a task beside its runs."""
        return self._checked.task(name).model_dump_json(include=SPLITTING - {"protocol"})

    def attention(self, name: str) -> str:
        """What heatmaps read of a task beside its runs: they show the first seed's."""
        task = self._checked.task(name)
        first = task.model_copy(update={"seeds": task.seeds[:1]})
        return first.model_dump_json(include={"classes", "merge_classes", "seeds"})

    def training(self, name: str) -> str:
        """What decides a task's models: neither seeds nor who is compared with whom.

        Whether its classes are ordinal is read by `evaluate` alone; whether budgets may differ, and
        what others have published, by the report. What a search tries decides them only where it
        is nested.
        """
        task = self._checked.task(name)
        # The encoder is a param of its own.
        unread = ("seeds", "ordinal", "unequal_budget", "encoder", "published")
        hidden: dict[str, Any] = dict.fromkeys(unread, True)
        if task.is_nested:  # its reader is not to refuse what planning has allowed
            task = task.model_copy(update={"unequal_budget": "allow"})
            hidden.pop("unequal_budget")
        else:
            hidden |= {**SEARCHES, "search": True}
        if type(task).model_fields["reference"].default in task.objectives:
            return task.model_dump_json(exclude={**hidden, "reference": True})
        # Its reader asks for a reference that is an arm: one that does not follow the user's.
        settled = task.model_copy(update={"reference": next(iter(task.objectives))})
        return settled.model_dump_json(exclude=hidden)

    def search(self, name: str, arm: str) -> str:
        """What decides the search of one arm of a task: the other arms do not."""
        task = self._checked.task(name)
        alone = {"objectives": {arm: task.objectives[arm].to_search()}, "reference": arm}
        hidden = {"seeds", "ordinal", "search", "unequal_budget", "encoder", "published"}
        return task.model_copy(update=alone).model_dump_json(exclude=hidden)
