from typing import Any

import pytest
import yaml

from wsi_ncmi.config import Config, Extraction, Protocol, Tiling, parse, part_problems
from wsi_ncmi.errors import ConfigError

SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "properties": {"width": {"type": "integer"}},
}
SCHEMAS = {
    "encoder": {"timm": SCHEMA},
    "aggregator": {"abmil": SCHEMA},
    "objective": {"cross_entropy": SCHEMA, "ncmi": SCHEMA},
    "dataset": {"mnist": SCHEMA},
}


def minimal(**changes: Any) -> dict[str, Any]:
    task = {"classes": ["a", "b"]}
    return {"cohort": "demo", "demo": {}, "tasks": {"t": task}, **changes}


def with_task(**changes: Any) -> dict[str, Any]:
    return minimal(tasks={"t": {"classes": ["a", "b"], **changes}})


def problems(raw: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigError) as error:
        parse(raw)
    assert str(error.value).startswith(f"{len(error.value.problems)} problem(s)")
    return error.value.problems


def test_defaults() -> None:
    config = parse(minimal())
    assert config.buckets == 16
    task = config.tasks["t"]
    assert list(task.objectives) == ["cross_entropy", "ncmi"]
    assert list(task.aggregators) == ["abmil"]
    assert task.seeds == [0, 1, 2]
    assert config.tiling.side_px == 256


def test_a_config_is_frozen() -> None:
    config = parse(minimal())
    with pytest.raises(ValueError, match="frozen"):
        config.cohort = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (minimal(bucket=3), "bucket: unknown key (found 3)"),
        (minimal(tiling={"mp": 0.5}), "tiling.mp: unknown key (found 0.5)"),
        (with_task(training={"lr": 1}), "tasks.t.training.lr: unknown key (found 1)"),
        (minimal(demo={"slides": 3}), "demo.slides: Input should be greater than or equal to 10"),
        (minimal(cohort="a/b"), "cohort: String should match pattern"),
        (minimal(tasks={"t/1": {"classes": ["a", "b"]}}), "tasks.t/1.[key]: "),
        (with_task(sample="tile"), "tasks.t.sample: Input should be 'slide' or 'patient'"),
        (with_task(classes=["a"]), "tasks.t.classes: List should have at least 2 items"),
        (with_task(seeds=["x"]), "tasks.t.seeds.0: Input should be a valid integer"),
        ({"demo": {}, "tasks": {"t": {"classes": ["a", "b"]}}}, "cohort: missing"),
        (minimal(tasks={"t": {}}), "tasks.t.classes: missing"),
    ],
)
def test_one_problem_names_its_key(raw: dict[str, Any], expected: str) -> None:
    found = problems(raw)
    assert len(found) == 1
    assert found[0].startswith(expected)


def test_several_problems_together() -> None:
    raw = minimal(
        buckets=0,
        nonsense=1,
        tiling={"mpp": "fine"},
        tasks={"t": {"classes": ["a", "b"], "training": {"epochs": 0}}},
    )
    found = problems(raw)
    assert {p.split(":")[0] for p in found} == {
        "buckets",
        "nonsense",
        "tiling.mpp",
        "tasks.t.training.epochs",
    }
    assert "found 'fine'" in next(p for p in found if p.startswith("tiling.mpp"))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"demo": None}, "exactly one of demo, slides, bags, images: found none"),
        ({"slides": {"sheet": "s.tsv"}}, "found demo and slides"),
        ({"tasks": {}}, "tasks is empty"),
        (
            {"demo": None, "images": {"i": {"dataset": "mnist", "path": "x"}}},
            "tasks belong to slides and bags",
        ),
    ],
)
def test_source_of_data(changes: dict[str, Any], expected: str) -> None:
    (found,) = problems(minimal(**changes))
    assert found.startswith("configuration: ")
    assert expected in found


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"classes": ["a", "b", "a"]}, "classes has a label twice: ['a', 'b', 'a']"),
        ({"reference": "ce"}, "reference 'ce' is not one of objectives: cross_entropy, ncmi"),
        (
            {"protocol": {"kind": "holdout_centres"}},
            "test_centres belongs to kind: holdout_centres, and only there",
        ),
        (
            {"protocol": {"kind": "kfold", "test_centres": ["c"]}},
            "test_centres belongs to kind: holdout_centres, and only there",
        ),
        ({"protocol": {"kind": "file"}}, "file belongs to kind: file, and only there"),
    ],
)
def test_what_fits_together_in_a_task(changes: dict[str, Any], expected: str) -> None:
    (found,) = problems(with_task(**changes))
    assert found.startswith("tasks.t")
    assert expected in found


@pytest.mark.parametrize(
    ("tiling", "expected"),
    [
        ({"tile_px": 256, "tile_um": 128.0}, "give tile_px or tile_um, not both"),
        ({"overlap_px": 256}, "overlap_px (256) must be below the tile's side"),
        ({"tile_px": 4}, "greater than or equal to 8"),
    ],
)
def test_tile_sizes(tiling: dict[str, Any], expected: str) -> None:
    (found,) = problems(minimal(tiling=tiling))
    assert expected in found


def test_tile_side_in_micrometres() -> None:
    assert Tiling(mpp=0.5, tile_um=112.0).side_px == 224
    assert Tiling(mpp=0.5, tile_px=224).side_px == 224
    again = Tiling.model_validate(Tiling(mpp=0.5, tile_um=112.0).model_dump())
    assert again.side_px == 224


def test_an_arm_overrides_training() -> None:
    raw = with_task(
        objectives={"cross_entropy": {}, "ncmi": {"training": {"learning_rate": 0.01}}},
        training={"epochs": 7, "learning_rate": 0.5},
    )
    task = parse(raw).tasks["t"]
    assert (
        task.training_of("abmil", "ncmi").learning_rate,
        task.training_of("abmil", "ncmi").epochs,
    ) == (0.01, 7)
    assert task.training_of("abmil", "cross_entropy").learning_rate == 0.5


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ({"learnin_rate": 1}, "objectives.ncmi.training.learnin_rate: unknown key (found 1)"),
        ({"epochs": 0}, "objectives.ncmi.training.epochs: Input should be greater"),
    ],
)
def test_a_wrong_override_names_its_whole_key(override: dict[str, Any], expected: str) -> None:
    raw = with_task(objectives={"cross_entropy": {}, "ncmi": {"training": override}})
    (found,) = problems(raw)
    assert found.startswith("tasks.t")
    assert expected in found


@pytest.mark.parametrize(
    ("options", "folder"),
    [
        ({"encoder": "resnet50"}, "resnet50"),
        ({"encoder": "hf-hub:MahmoodLab/UNI"}, "hf-hub_MahmoodLab_UNI"),
        ({"encoder": "resnet50", "name": "mine"}, "mine"),
    ],
)
def test_folder_of_features(options: dict[str, str], folder: str) -> None:
    assert Extraction(**options).folder == folder  # type: ignore[arg-type]
    assert parse(minimal(extraction=options)).encoder_folder == folder


def test_imported_bags_name_their_folder() -> None:
    raw = minimal(demo=None, bags={"path": "b.h5", "sheet": "s.tsv", "name": "hipt"})
    assert parse(raw).encoder_folder == "hipt"


@pytest.mark.parametrize("fraction", [0.0, 0.5, -0.1])
def test_validation_fraction(fraction: float) -> None:
    with pytest.raises(ValueError, match="validation_fraction"):
        Protocol(validation_fraction=fraction)


def test_parts_are_listed_with_their_keys() -> None:
    raw = with_task(
        objectives={"cross_entropy": {}, "sharp": {"part": "ncmi", "options": {"width": 2}}}
    )
    assert list(parse(raw).part_options()) == [
        ("extraction", "encoder", "resnet50", {}),
        ("tasks.t.objectives.cross_entropy", "objective", "cross_entropy", {}),
        ("tasks.t.objectives.sharp", "objective", "ncmi", {"width": 2}),
        ("tasks.t.aggregators.abmil", "aggregator", "abmil", {}),
    ]
    images = {"cohort": "c", "images": {"i": {"dataset": "mnist", "path": "x"}}}
    kinds = [(kind, name) for _, kind, name, _ in parse(images).part_options()]
    arms = [("objective", "cross_entropy"), ("objective", "ncmi")]
    assert kinds == [*arms, ("dataset", "mnist"), ("network", "resnet18")]


def config_with_parts(**task: Any) -> Config:
    return parse(with_task(**task))


def test_wrong_parts_are_all_named() -> None:
    config = config_with_parts(
        aggregators={"abmil": {"options": {"width": "wide"}}, "abmill": {}},
        objectives={"cross_entropy": {"options": {"widht": 1}}, "mine": {"part": "nmci"}},
    )
    found = part_problems(config, SCHEMAS)
    assert found == [
        "tasks.t.objectives.cross_entropy.options: unknown option 'widht', expected one of width",
        "tasks.t.objectives.mine: unknown objective 'nmci', expected one of cross_entropy, ncmi",
        "tasks.t.aggregators.abmil.options.width: found 'wide', expected integer",
        "tasks.t.aggregators.abmill: unknown aggregator 'abmill', expected one of abmil",
    ]


def test_any_other_encoder_is_timm() -> None:
    raw = minimal(extraction={"encoder": "vit_small", "options": {"width": "x"}})
    assert part_problems(parse(raw), SCHEMAS) == [
        "extraction.options.width: found 'x', expected integer"
    ]
    assert part_problems(parse(minimal()), SCHEMAS) == []


def test_paths_are_expanded_wherever_they_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("DATA", "/data")
    protocol = {"kind": "file", "file": "$DATA/folds.tsv"}
    config = parse(
        minimal(
            demo=None,
            slides={"sheet": "~/s.tsv"},
            results="${DATA}/results",
            extraction={"weights": "~/w.pt"},
            tiling={"tissue": {"method": "model", "weights": "$DATA/m.pt"}},
            tasks={"t": {"classes": ["a", "b"], "protocol": protocol}},
        )
    )
    assert config.slides is not None
    assert config.slides.sheet == "/home/me/s.tsv"
    assert config.results == "/data/results"
    assert config.extraction.weights == "/home/me/w.pt"
    assert config.tiling.tissue.weights == "/data/m.pt"
    assert config.tasks["t"].protocol.file == "/data/folds.tsv"
    bags = {"path": "~/b.h5", "sheet": "$DATA/b.tsv"}
    config = parse(minimal(demo=None, bags=bags))
    assert config.bags is not None
    assert (config.bags.path, config.bags.sheet) == ("/home/me/b.h5", "/data/b.tsv")
    images = {"i": {"dataset": "mnist", "path": "~/mnist"}}
    assert parse({"cohort": "c", "images": images}).images["i"].path == "/home/me/mnist"


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ("", "results: String should have at least 1 character"),
        ("$NOT_THERE/r", "results: '$NOT_THERE/r': $NOT_THERE is not set in the environment"),
        ("~nobody-here/r", "results: '~nobody-here/r': ~nobody-here: no such user"),
        ("r{x}", "results: 'r{x}': a folder of results cannot have '{' '}'"),
        ("a\nb", "results: 'a\\nb': a folder of results cannot have '\\n'"),
        ("-r", "results: '-r': a folder of results cannot have '-' at its start"),
    ],
)
def test_a_folder_of_results_that_rules_cannot_write_to_is_refused(
    folder: str, expected: str
) -> None:
    (found,) = problems(minimal(results=folder))
    assert found.startswith(expected)


@pytest.mark.parametrize(
    ("word", "found", "reason"),
    [
        ("yes", "True", "words such as yes, no, on, off and true are truth values"),
        ("1", "1", "digits such as 1, 1.0 and 010 are numbers"),
        ("1.0", "1.0", "digits such as"),
        ("010", "8", "digits such as"),
        ("2024-01-31", "2024-01-31", "digits such as 2024-01-31 are dates"),
        ("null", "None", "null, ~ and an empty value are nothing"),
    ],
)
def test_what_yaml_does_not_read_as_text_is_to_be_quoted(
    word: str, found: str, reason: str
) -> None:
    raw = yaml.safe_load(f"{{classes: [{word}, b], protocol: {{test_centres: [{word}]}}}}")
    said = problems(minimal(tasks={"t": raw}, ignore_labels=raw["classes"]))
    places = ["ignore_labels.0", "tasks.t.classes.0", "tasks.t.protocol.test_centres.0"]
    assert [line.partition(":")[0] for line in said] == places
    for line in said:
        assert f": expected text, found {found}: {reason}" in line
        assert line.endswith("in YAML: put it in quotation marks")
    quoted = yaml.safe_load(f"[{word!r}, b]")
    assert parse(minimal(tasks={"t": {"classes": quoted}})).tasks["t"].classes == [word, "b"]


def test_a_name_that_yaml_reads_as_a_number_is_to_be_quoted() -> None:
    (found,) = problems(minimal(cohort=17))
    assert found == (
        "cohort: expected text, found 17: digits such as 1, 1.0 and 010 are numbers in YAML: put "
        "it in quotation marks"
    )


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (minimal(tilling={}), "tilling: unknown key (found {}): did you mean tiling?"),
        (minimal(tiling={"tissue": {"metod": "hsv"}}), "(found 'hsv'): did you mean method?"),
        (with_task(training={"epoch": 1}), "tasks.t.training.epoch: unknown key (found 1): did"),
        (with_task(protocol={"fold": 3}), "(found 3): did you mean folds?"),
        (
            minimal(extraction={"augmentation": {"transforms": [{"nam": "x", "name": "y"}]}}),
            "extraction.augmentation.transforms.0.nam: unknown key (found 'x'): did you mean name?",
        ),
    ],
)
def test_a_key_that_is_near_is_named(raw: dict[str, Any], expected: str) -> None:
    (found,) = problems(raw)
    assert expected in found


def test_a_key_far_from_all_is_only_unknown() -> None:
    assert problems(minimal(zzz=1)) == ["zzz: unknown key (found 1)"]
