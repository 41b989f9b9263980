# Reads and checks the configuration and the sheet; no rules.
import re
import shlex
from pathlib import Path

from wsi_ncmi.errors import ConfigError
from wsi_ncmi.files.retries import is_newer, retries
from wsi_ncmi.machine import has_gpu
from wsi_ncmi.planning.checked import CheckedConfig
from wsi_ncmi.planning.digests import Digests
from wsi_ncmi.planning.settings import Settings

try:
    CHECKED = CheckedConfig(
        config,
        Path(workflow.source_path("../schemas/parts.schema.json")),
        [Path(file) for file in workflow.configfiles],
    )
except ConfigError as error:
    raise WorkflowError(str(error)) from None

CONFIG, SETTINGS, DIGESTS = CHECKED.config, Settings(CHECKED), Digests(CHECKED)
ROOT = CHECKED.root
READS_SLIDES = CHECKED.reads_slides
# Locally the default profile allows one job per GPU; without a GPU jobs share the cores.
GPU = int(has_gpu())
# A GPU is fed by several reading threads; without one, each core takes a job of its own.
FEATURE_THREADS = 8 if GPU else 1
# A resource and no param: another limit changes no result, so that nothing runs again for it.
SLIDE_MINUTES = str(CONFIG.slide_minutes)


# Indexes of image data sets: what they say of a data set holds for every cohort.
DATA_SETS = f"{CONFIG.results}/data-sets"
SOURCES = SETTINGS.image_sources()

# How slides at addresses are fetched; None: they are read where they are.
FETCH = CONFIG.slides.fetch if CONFIG.slides else None


wildcard_constraints:
    source="|".join(map(re.escape, SOURCES)) or "none",
    bucket=r"\d+",
    encoder="|".join(map(re.escape, CONFIG.encoders)),
    seed=r"\d+",
    task="|".join(map(re.escape, CHECKED.task_names)),
    arm=r"[A-Za-z0-9._-]+",


def literal(value):
    """A user's text, or several, as a param: its braces are no wildcards."""
    return lambda wildcards: value


def settled(path, stamp, digest):
    """An input that does not make its job run again while what decides the job is unchanged.

    `ancient` alone would not do: Snakemake does not look at the params of a job whose inputs are
    all ancient while one of them is remade.
    """
    return ancient(path) if DIGESTS.is_settled(stamp, digest) else path


def cache(encoder):
    """Folder of an encoder's packed bags."""
    return f"{ROOT}/cache/{encoder}"


def cache_of(wildcards):
    """That of the encoder that a task is trained on."""
    return cache(CONFIG.encoder_of(wildcards.task))


def index_of(wildcards):
    """Index of a task's cache; images have none."""
    return [] if CONFIG.images else f"{cache_of(wildcards)}/index.tsv"


def index_of_images(wildcards):
    """Summary of the index of an image task's data set."""
    return f"{DATA_SETS}/{CONFIG.images[wildcards.task].source}/summary.json"


def settled_index(stamp, wildcards):
    """A task's index for a job: settled unless bags were, or are, to be tried again."""
    index = index_of(wildcards)
    if is_newer(Path(cache_of(wildcards)), Path(stamp)):
        return index
    return settled(index, stamp, DIGESTS.train(wildcards.task))


def demo_sheet(stamp, digest):
    """The demo's sheet where there is one; your own sheet is no input."""
    return settled(CHECKED.sheet_path, stamp, digest) if CONFIG.demo else []


def fetched(wildcards):
    """Manifest of the copies of a bucket's slides, where they are fetched."""
    return f"{ROOT}/slides/bucket-{wildcards.bucket}.tsv" if FETCH else []


def slides_of(wildcards):
    """Folder of the copies of a bucket's slides.

    Those that do not stay share one with the buckets before and after: what a killed run of other
    buckets has left there is removed by the next job that fetches into it.
    """
    if FETCH.keep_slides:
        return f"{ROOT}/slides"
    place = [*CHECKED.buckets].index(int(wildcards.bucket))
    step = FETCH.buckets_at_once
    return f"{ROOT}/slides/lane-{place % step}-of-{step}"


def finished(bucket, *encoders):
    """Options of the commands that fetch and drop: which slides are not fetched again."""
    if FETCH.keep_slides:
        return []
    options = []
    for encoder in encoders:
        record = f"{ROOT}/slides/finished/{encoder}/bucket-{bucket}.json"
        made = ["--tiles", f"{ROOT}/tiles", "--bags", f"{ROOT}/features/{encoder}"]
        given = ["--tiling", SETTINGS.section("tiling")]
        given += ["--encoding", DIGESTS.encoding(encoder)]
        options += ["--finished", record, *given, *made]
    return options


def copies(wildcards, manifest=None):
    """Options of a command that reads slides: where their copies are."""
    if not FETCH:
        return []
    beside = [manifest, fetched(wildcards)] if manifest else []
    return ["--slides", slides_of(wildcards), *beside]


# Of a command that reads slides after all buckets are finished. A resource and no param, as the limit
# above: from where a slide is read changes no result.
WHERE_SLIDES_ARE = shlex.join(
    ["--slides", f"{ROOT}/slides", "--fetch", FETCH.model_dump_json()] if FETCH else []
)


def dropping(wildcards):
    """What ends a job that makes a bucket's bags: slides that do not stay are dropped.

    They wait for every encoder that they were fetched for. Which these are, `fetch` says in the folder
    of the copies, and no param: one more encoder does not make the bags of the others again.
    """
    if not FETCH or FETCH.keep_slides:
        return ""
    bucket = ["--bucket", wildcards.bucket, "--buckets", str(CONFIG.buckets)]
    given = ["--sheet", CHECKED.sheet_path, *copies(wildcards), *bucket]
    encoder = wildcards.encoder
    made = ["--made", f"{ROOT}/features/{encoder}/bucket-{wildcards.bucket}.tsv"]
    command = shlex.join([*given, *finished(wildcards.bucket, encoder), *made])
    return f" && python -m wsi_ncmi.cli fetch drop {command}"


def buckets_before(bucket):
    """Bags of the buckets whose slides must be gone before those of this one are fetched.

    They are ancient: that bags are made again elsewhere is no reason to fetch these slides. It is one
    where a killed run has left this bucket's copies: those of an earlier one take their place.
    """
    order = [*CHECKED.buckets]
    place, step = order.index(bucket), FETCH.buckets_at_once
    earlier = [] if FETCH.keep_slides else order[place % step : place : step]
    bags = [
        f"{ROOT}/features/{encoder}/bucket-{b}.tsv"
        for encoder in CONFIG.encoders
        for b in earlier
    ]
    is_begun = Path(f"{ROOT}/slides/bucket-{bucket}.tsv").is_file()
    return bags if is_begun else [ancient(path) for path in bags]


def buckets(folder):
    """Manifests of all buckets that hold a slide."""
    return [f"{ROOT}/{folder}/bucket-{b}.tsv" for b in CHECKED.buckets]


def seeds(wildcards):
    """Manifests of all seeds of a task."""
    return [
        f"{ROOT}/runs/{wildcards.task}/seed-{s}.tsv"
        for s in CHECKED.task(wildcards.task).seeds
    ]


def first_seed(wildcards):
    return seeds(wildcards)[0]


def evaluations():
    """Summaries of the statistics of all tasks."""
    return [
        f"{ROOT}/runs/{name}/evaluation/summary.json" for name in CHECKED.task_names
    ]


def findings():
    """What the experiment found, where there is one."""
    return f"{ROOT}/experiment/findings.json" if CONFIG.experiment else []


def searched(wildcards):
    """Tables of all arms that have candidate settings."""
    if not CHECKED.searched:
        raise WorkflowError(
            "no arm has settings to search: give an objective `search`, in a task without "
            "search: nested"
        )
    return [f"{ROOT}/search/{task}/{arm}.tsv" for task, arm in CHECKED.searched]
