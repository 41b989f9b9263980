"""How slides at addresses come to the local disk."""

from pydantic import Field, model_validator

from wsi_ncmi.config.base import LocalPath, Model


class Fetch(Model):
    """How slides at addresses are fetched before they are tiled. No result depends on it."""

    keep_slides: bool = Field(
        True,
        description=(
            "Whether fetched slides stay in `<results>/<cohort>/slides`. `false`: those of a "
            "bucket are removed as soon as its bags are finished; `disk_gb` is needed."
        ),
    )
    disk_gb: float | None = Field(
        None,
        gt=0,
        description=(
            "With `keep_slides: false`: slides on the disk at a time take at most so many GB (1e9 "
            "bytes), above 0. Slides that stay take what they take."
        ),
    )
    buckets_at_once: int = Field(
        2,
        ge=1,
        description=(
            "With `keep_slides: false`: buckets whose slides are on the disk at a time, 1 or more. "
            "Each has its share of `disk_gb`; with 2, one is fetched while another is encoded."
        ),
    )
    endpoint: str | None = Field(
        None, description="Address of the S3 service that `s3://` means. `null`: Amazon's."
    )
    mirrors: dict[str, LocalPath] = Field(
        {},
        description=(
            "Beginning of an address → the address or folder that replaces it, such as "
            "`{s3://camelyon-dataset: /mnt/camelyon}`."
        ),
    )
    checksums: LocalPath | None = Field(
        None,
        description=(
            "File of MD5 sums as `md5sum` writes it; a slide is found by the end of its address. "
            "`null`: sizes are checked, and `sha256` of the sheet."
        ),
    )
    connections: int = Field(
        8, ge=1, le=256, description="Parts of a slide that are fetched at the same time, 1 to 256."
    )
    part_mb: int = Field(16, ge=1, le=1024, description="Size of a part in MB, 1 to 1024.")
    tries: int = Field(
        8,
        ge=1,
        description=(
            "How often a part is tried, 1 or more. The pause before each further try doubles, from "
            "a quarter of a second to 30 s."
        ),
    )
    stalled_seconds: float = Field(
        60, gt=0, description="Seconds without a byte after which a part is tried again, above 0."
    )

    @model_validator(mode="after")
    def _check_room(self) -> "Fetch":
        if not self.keep_slides and self.disk_gb is None:
            raise ValueError("keep_slides: false needs disk_gb, the room that slides may take")
        return self

    @property
    def room(self) -> float | None:
        """Bytes that the slides of one bucket may take; None: no limit."""
        if self.keep_slides or self.disk_gb is None:
            return None
        return self.disk_gb * 1e9 / self.buckets_at_once
