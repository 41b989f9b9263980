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

# The cohort itself under "", and second cohorts, which are made as it is, by their names.
COHORTS = {"": CHECKED, **CHECKED.external}
PLANNED = {name: Digests(cohort) for name, cohort in COHORTS.items()}
CONFIG, SETTINGS, DIGESTS = CHECKED.config, Settings(CHECKED), PLANNED[""]
ROOT = CHECKED.root
OUTSIDE = f"{ROOT}/external/{{external}}"
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


wildcard_constraints:
    source="|".join(map(re.escape, SOURCES)) or "none",
    bucket=r"\d+",
    encoder="|".join(map(re.escape, CONFIG.encoders)),
    seed=r"\d+",
    task="|".join(map(re.escape, CHECKED.task_names)),
    arm=r"[A-Za-z0-9._-]+",
    external="|".join(map(re.escape, CHECKED.external)) or "none",


def cohort(wildcards):
    """The cohort that a job is of."""
    return COHORTS[getattr(wildcards, "external", "")]


def digests(wildcards):
    """What decides its steps."""
    return PLANNED[getattr(wildcards, "external", "")]


def sheet_of(wildcards):
    return cohort(wildcards).sheet_path


def fetch_of(cohort):
    """How slides of a cohort at addresses are fetched; None: they are read where they are."""
    return cohort.config.slides.fetch if cohort.config.slides else None


def literal(value):
    """A user's text, or several, as a param: its braces are no wildcards."""
    return lambda wildcards: value


def settled(path, stamp, digest):
    """An input that does not make its job run again while what decides the job is unchanged.

    `ancient` alone would not do: Snakemake does not look at the params of a job whose inputs are
    all ancient while one of them is remade.
    """
    return ancient(path) if DIGESTS.is_settled(stamp, digest) else path


def cache(encoder, of=CHECKED):
    """Folder of an encoder's packed bags."""
    return f"{of.root}/cache/{encoder}"


def cache_of(wildcards):
    """That of the encoder that a task is trained on."""
    return cache(CONFIG.encoder_of(wildcards.task))


def tries_of(wildcards):
    """How often bags of a cache were, or are, to be tried again."""
    return retries(Path(cache(wildcards.encoder, cohort(wildcards)))).tries


def index_of(wildcards):
    """Index of a task's cache; images have none."""
    return [] if CONFIG.images else f"{cache_of(wildcards)}/index.tsv"


def index_outside(wildcards):
    """That of a second cohort's bags for a task."""
    return f"{cache(CONFIG.encoder_of(wildcards.task), cohort(wildcards))}/index.tsv"


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
    own = cohort(wildcards)
    return f"{own.root}/slides/bucket-{wildcards.bucket}.tsv" if fetch_of(own) else []


def slides_of(wildcards):
    """Folder of the copies of a bucket's slides.

    Those that do not stay share one with the buckets before and after: what a killed run of other
    buckets has left there is removed by the next job that fetches into it.
    """
    own = cohort(wildcards)
    fetch, folder = fetch_of(own), f"{own.root}/slides"
    if fetch.keep_slides:
        return folder
    place = [*own.buckets].index(int(wildcards.bucket))
    step = fetch.buckets_at_once
    return f"{folder}/lane-{place % step}-of-{step}"


def finished(wildcards, *encoders):
    """Options of the commands that fetch and drop: which slides are not fetched again."""
    own = cohort(wildcards)
    if fetch_of(own).keep_slides:
        return []
    options, root = [], own.root
    for encoder in encoders:
        record = f"{root}/slides/finished/{encoder}/bucket-{wildcards.bucket}.json"
        made = ["--tiles", f"{root}/tiles", "--bags", f"{root}/features/{encoder}"]
        given = ["--tiling", SETTINGS.section("tiling")]
        given += ["--encoding", digests(wildcards).encoding(encoder)]
        options += ["--finished", record, *given, *made]
    return options


def copies(wildcards, manifest=None):
    """Options of a command that reads slides: where their copies are."""
    if not fetch_of(cohort(wildcards)):
        return []
    beside = [manifest, fetched(wildcards)] if manifest else []
    return ["--slides", slides_of(wildcards), *beside]


# Of a command that reads slides after all buckets are finished. A resource and no param, as the limit
# above: from where a slide is read changes no result.
WHERE_SLIDES_ARE = shlex.join(
    ["--slides", f"{ROOT}/slides", "--fetch", fetch_of(CHECKED).model_dump_json()]
    if fetch_of(CHECKED)
    else []
)


def dropping(wildcards):
    """What ends a job that makes a bucket's bags: slides that do not stay are dropped.

    They wait for every encoder that they were fetched for. Which these are, `fetch` says in the folder
    of the copies, and no param: one more encoder does not make the bags of the others again.
    """
    own = cohort(wildcards)
    fetch = fetch_of(own)
    if not fetch or fetch.keep_slides:
        return ""
    bucket = ["--bucket", wildcards.bucket, "--buckets", str(CONFIG.buckets)]
    given = ["--sheet", own.sheet_path, *copies(wildcards), *bucket]
    encoder = wildcards.encoder
    made = ["--made", f"{own.root}/features/{encoder}/bucket-{wildcards.bucket}.tsv"]
    command = shlex.join([*given, *finished(wildcards, encoder), *made])
    return f" && python -m wsi_ncmi.cli fetch drop {command}"


def buckets_before(wildcards):
    """Bags of the buckets whose slides must be gone before those of this one are fetched.

    They are ancient: that bags are made again elsewhere is no reason to fetch these slides. It is one
    where a killed run has left this bucket's copies: those of an earlier one take their place.
    """
    own, bucket = cohort(wildcards), int(wildcards.bucket)
    fetch, order = fetch_of(own), [*own.buckets]
    place, step = order.index(bucket), fetch.buckets_at_once
    earlier = [] if fetch.keep_slides else order[place % step : place : step]
    bags = [
        f"{own.root}/features/{encoder}/bucket-{b}.tsv"
        for encoder in CONFIG.encoders
        for b in earlier
    ]
    is_begun = Path(f"{own.root}/slides/bucket-{bucket}.tsv").is_file()
    return bags if is_begun else [ancient(path) for path in bags]


def buckets(folder, of=CHECKED):
    """Manifests of all buckets that hold a slide."""
    return [f"{of.root}/{folder}/bucket-{b}.tsv" for b in of.buckets]


def bags_made(wildcards):
    """Manifests of an encoder's bags, of all buckets."""
    return buckets(f"features/{wildcards.encoder}", cohort(wildcards))


def tiles_made(wildcards):
    """Folders of tile files, of the cohort and of a second one, where slides are read."""
    if not READS_SLIDES:
        return []
    return [
        "--own-tiles",
        f"{ROOT}/tiles",
        "--tiles",
        f"{cohort(wildcards).root}/tiles",
    ]


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


def validations():
    """Summaries of second cohorts, of every task that has slides there."""
    return [
        f"{ROOT}/runs/{task}/external/{name}/summary.json"
        for task in CHECKED.task_names
        for name in CHECKED.external
        if CHECKED.is_external(name, task)
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
