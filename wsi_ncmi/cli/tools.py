"""The commands that people call; nothing heavy is imported before one runs."""

import argparse
from pathlib import Path

from wsi_ncmi.cli.common import (
    OPTIONS,
    REQUIRED,
    SEED,
    THREADS,
    Commands,
    nearest_folder,
    positive,
    rows_of,
    section,
    sections_of,
)

# As in bags.layouts, which is too heavy to import for a list of choices.
IMPORTED = ("clam_h5", "clam_pt", "trident", "stamp", "slideflow", "hipt", "wsi_ncmi", "packed")


def camelyon17_sheet(args: argparse.Namespace) -> None:
    from wsi_ncmi.cohorts.camelyon17 import read_labels, sheet_rows
    from wsi_ncmi.cohorts.sheet import write_sheet

    rows = sheet_rows(read_labels(Path(args.labels)), args.images)
    write_sheet(rows, Path(args.out))
    print(f"{args.out}: {len(rows)} slides")


def camelyon17_demo(args: argparse.Namespace) -> None:
    from wsi_ncmi.cohorts.camelyon17 import read_labels
    from wsi_ncmi.stages import demo as stage

    labels = read_labels(Path(args.labels))
    stage.run_camelyon17(labels, args.slides, Path(args.out), args.seed, args.threads)


def bags_sheet(args: argparse.Namespace) -> None:
    from wsi_ncmi.tools.bags import sheet as bags

    print(f"{args.out}: {bags.sheet(Path(args.packed), Path(args.out))} slides")


def bags_import(args: argparse.Namespace) -> int:
    from wsi_ncmi.tools.bags import importing as stage

    sheet, refused = (Path(p) if p else None for p in (args.sheet, args.refused))
    return stage.run(Path(args.path), args.layout, Path(args.out), sheet, refused)


def bags_verify(args: argparse.Namespace) -> int:
    from wsi_ncmi.tools.bags import verify as stage

    return stage.run(Path(args.dir), manifests=args.manifest)


def bags_info(args: argparse.Namespace) -> None:
    from wsi_ncmi.tools.bags import info as stage

    stage.run(Path(args.file))


def tiles_show(args: argparse.Namespace) -> None:
    from wsi_ncmi.config import Tiling
    from wsi_ncmi.errors import ConfigError
    from wsi_ncmi.tools import tiles_show as stage

    if args.config and args.options != OPTIONS["default"]:
        raise ConfigError(["give --config or --options, not both"])
    sections = sections_of(args.config) if args.config else None
    tiling = sections.tiling if sections else section(Tiling, args.options)
    row = stage.row_of(args.slide, sections.sheet if sections else "", args.mpp)
    stage.run(row, tiling, Path(args.out), args.count, args.seed)


def plan(args: argparse.Namespace) -> int:
    from wsi_ncmi.errors import ConfigError
    from wsi_ncmi.tools.plan import command as stage
    from wsi_ncmi.tools.plan.storage import storage_of

    sections = sections_of(args.config)
    sheet = args.sheet or sections.sheet
    if not sheet:
        raise ConfigError(["no sheet: name one, or give slides.sheet in the configuration"])
    storage = storage_of(sections.extraction, sections.tiling, args.dim)
    options = stage.Options(args.quick, args.rate, args.threads)
    out = Path(args.out) if args.out else None
    folder = nearest_folder(Path(sections.results))
    return stage.run(rows_of(sheet), sections.tiling, storage, options, out, folder)


def doctor(args: argparse.Namespace) -> int:
    from wsi_ncmi.tools.doctor import command as stage

    sections = sections_of(args.config) if args.config else None
    folder = nearest_folder(Path(sections.results)) if sections else Path()
    if args.folder is not None:
        folder = Path(args.folder)
    extraction = sections.extraction if sections else None
    return stage.run(folder, extraction, as_json=args.json)


def predictions_export(args: argparse.Namespace) -> None:
    from wsi_ncmi.predictions.read import export_tsv

    export_tsv(Path(args.predictions), Path(args.out))


def information(args: argparse.Namespace) -> None:
    from wsi_ncmi.tools import information as stage

    out, samples = (Path(p) if p else None for p in (args.out, args.samples))
    stage.run(Path(args.predictions), args.part, out, samples, args.targets)


CONFIG = {"nargs": "+", "metavar": "FILE", "help": "configurations; the later ones win"}
COMMANDS: Commands = {
    "plan": (
        "reader, scale, tiles, time, disk and problems of every slide, before any work",
        plan,
        {
            "SHEET": {"nargs": "?", "help": "the slide sheet (default: the configuration's)"},
            "config": {**CONFIG, "required": True},
            "out": {"help": "TSV with a row per slide and all columns"},
            "quick": {
                "action": "store_true",
                "help": "do not look for tissue: tiles of the whole area",
            },
            "rate": {
                "type": positive(float),
                "help": "tiles per second (default: reading is measured, 1 s for each reader)",
            },
            "dim": {
                "type": positive(int),
                "help": "features of a tile, if the encoder is not at hand",
            },
            "threads": THREADS,
        },
    ),
    "doctor": (
        "what this machine has, what is missing, and what to do about it",
        doctor,
        {
            "folder": {
                "help": "where results are to lie (default: the configuration's, or here)",
            },
            "config": CONFIG,
            "json": {"action": "store_true", "help": "print JSON"},
        },
    ),
    "tiles show": (
        "pictures of a slide's tissue and of some of its tiles",
        tiles_show,
        {
            "SLIDE": {
                "help": "a slide, or a slide_id of the configuration's sheet; or a tile file"
            },
            "config": CONFIG,
            "options": OPTIONS,
            "mpp": {
                "type": positive(float),
                "help": "µm per level-0 pixel (default: the sheet's, then what the slide states)",
            },
            "out": {"default": ".", "help": "folder of the pictures"},
            "count": {"type": positive(int), "default": 24, "help": "tiles of the sample"},
            "seed": SEED,
        },
    ),
    "camelyon17 sheet": (
        "write CAMELYON-17's slide sheet from a label file",
        camelyon17_sheet,
        {
            "labels": REQUIRED,
            "images": {
                "default": "s3://camelyon-dataset/CAMELYON17",
                "help": "local folder, or the public bucket (the default)",
            },
            "out": REQUIRED,
        },
    ),
    "camelyon17 demo": (
        "write synthetic slides under CAMELYON-17's names with real labels",
        camelyon17_demo,
        {
            "labels": REQUIRED,
            "slides": {"type": int, "default": 100},
            "seed": {"type": int, "default": 17},
            "out": REQUIRED,
            "threads": THREADS,
        },
    ),
    "bags sheet": (
        "write the sheet of a packed file that carries its labels",
        bags_sheet,
        {"packed": REQUIRED, "out": REQUIRED},
    ),
    "bags import": (
        "bags of CLAM, TRIDENT, STAMP, slideflow or HIPT into one packed file",
        bags_import,
        {
            "PATH": {"help": "folder with one file per slide, or a packed file"},
            "layout": {"default": "auto", "choices": ("auto", *IMPORTED), "help": "whose they are"},
            "out": {"required": True, "help": "packed HDF5 file, for `bags: {format: packed}`"},
            "sheet": {"help": "import these slides only; its mpp places STAMP's coordinates"},
            "refused": {"help": "TSV of what was refused and why (default: beside --out)"},
        },
    ),
    "bags verify": (
        "check every byte of our own bags",
        bags_verify,
        {
            "DIR": {"help": "folder of bags, those below it too, or one bag"},
            "manifest": {
                "action": "store_true",
                "help": "also compare digests with the manifests bucket-*.tsv that stand beside",
            },
        },
    ),
    "bags info": (
        "what stands in a bag of whatever tool",
        bags_info,
        {"FILE": {"help": "an .h5 or .pt file"}},
    ),
    "predictions export": (
        "predictions.parquet as TSV",
        predictions_export,
        {"predictions": REQUIRED, "out": REQUIRED},
    ),
    "information": (
        "CMI, separation and NCMI of any classifier's predictions",
        information,
        {
            "PREDICTIONS": {
                "help": "predictions.parquet, or a TSV with target and score_<class> (log-odds) "
                "or prob_<class>",
            },
            "out": {"help": "TSV of the printed rows and one per class"},
            "part": {"help": "only this part, as test"},
            "samples": {"help": "TSV of every sample's terms"},
            "targets": {
                "choices": ("index", "name"),
                "help": "what a TSV's targets are (the default: whichever fits)",
            },
        },
    ),
}
