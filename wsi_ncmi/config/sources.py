"""Where the data of a cohort come from: slides, or bags that exist already; of a second one too."""

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from wsi_ncmi.config.base import LocalPath, Model, Name, Unsaid
from wsi_ncmi.config.fetch import Fetch


class Slides(Model):
    """Your own slides."""

    sheet: LocalPath = Field(
        description=(
            "TSV with the columns `slide_id`, `path`, `label`, `patient_id`, `centre`, and "
            "optionally `mpp`, `sha256`, `annotation`, `mask`, `split`, `exclude`, `label_source`, "
            "`label.<name>`, `tissue.<key>`."
        )
    )
    fetch: Fetch | None = Field(
        None,
        description=(
            "How slides at addresses come to the local disk. `null`: they are read where they are, "
            "by ranges."
        ),
    )


class OtherBags(Model):
    """Bags of another encoder, of the same slides."""

    path: LocalPath = Field(description="As `bags.path`.")
    format: Literal["packed", "h5", "pt"] = Field("packed", description="As `bags.format`.")


class Bags(Unsaid):
    """Feature bags that exist already; no slides are read."""

    UNSAID: ClassVar[tuple[str, ...]] = ("others",)  # without any, what it decides is as before

    path: LocalPath = Field(description="The packed file, or the folder with one file per slide.")
    format: Literal["packed", "h5", "pt"] = Field(
        "packed",
        description=(
            "`packed`: one HDF5 file. `h5`: a folder of HDF5 files (CLAM, TRIDENT, STAMP). `pt`: "
            "a folder of tensors (CLAM, HIPT)."
        ),
    )
    sheet: LocalPath = Field(
        description="TSV with the columns `slide_id`, `label`, `patient_id`, `centre`."
    )
    name: Name = Field(
        "imported",
        description="Name of the encoder in results and report: letters, digits, `.`, `_`, `-`.",
    )
    others: dict[Name, OtherBags] = Field(
        {},
        description=(
            "Name of another encoder → its bags, of the same slides. A task's `encoder` says which "
            "it is trained on."
        ),
    )

    @model_validator(mode="after")
    def _check_names(self) -> "Bags":
        if self.name in self.others:
            raise ValueError(f"others: {self.name} is the name of these bags too: rename one")
        return self

    def of(self, encoder: str) -> "Bags":
        """The bags of one encoder alone."""
        if encoder == self.name:
            return self.model_copy(update={"others": {}})
        found = self.others[encoder]
        return Bags(path=found.path, format=found.format, sheet=self.sheet, name=encoder)


class ExternalBags(Model):
    """Bags of a second cohort, made as those of the cohort were."""

    path: LocalPath = Field(description="As `bags.path`.")
    format: Literal["packed", "h5", "pt"] = Field("packed", description="As `bags.format`.")
    sheet: LocalPath = Field(description="As `bags.sheet`.")
    others: dict[Name, OtherBags] = Field(
        {},
        description="Name of another encoder → its bags; the names of `bags.others`, all of them.",
    )

    def named(self, encoder: str) -> Bags:
        """As bags of the encoder of that name."""
        given = {"path": self.path, "format": self.format, "sheet": self.sheet}
        return Bags(**given, name=encoder, others=self.others)


class External(Model):
    """A labelled second cohort, of the kind that the cohort is."""

    slides: Slides | None = Field(None, description="Its slides, where the cohort has slides.")
    bags: ExternalBags | None = Field(None, description="Its bags, where the cohort has bags.")
