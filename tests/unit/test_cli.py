"""The command line: every command has help, subcommands do not ask for their parent's options."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from wsi_ncmi import cli
from wsi_ncmi.cli.common import nearest_folder, sections_of
from wsi_ncmi.errors import ConfigError


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_of_every_command(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main([*name.split(), "--help"])
    assert stopped.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert f"usage: wsi-ncmi {name}" in text
    assert cli.COMMANDS[name][0] in text
    for option in cli.COMMANDS[name][2]:
        assert (option if option.isupper() else f"--{option}") in text


def test_a_command_with_subcommands_still_asks_for_its_own(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["tiles", "--sheet", "s.tsv", "--out", "o"])
    assert stopped.value.code == 2
    assert "the following arguments are required: --manifest" in capsys.readouterr().err
    args = cli.parser().parse_args(["tiles", "show", "slide.svs", "--count", "3"])
    assert (args.slide, args.count) == ("slide.svs", 3)
    assert args.handler is cli.COMMANDS["tiles show"][1]
    whole = ["tiles", "--sheet", "s", "--out", "o", "--manifest", "m"]
    assert cli.parser().parse_args(whole).handler is cli.COMMANDS["tiles"][1]


def test_help_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    text = capsys.readouterr().out
    assert "From whole-slide images to tiles, features and classifiers" in text
    assert "imported" not in text.split("options:")[0]
    for _, _, options in cli.COMMANDS.values():
        for name in {"tiles", "bucket", "buckets", "manifest", "threads"} & set(options):
            assert options[name].get("help"), name


def test_nothing_heavy_is_imported_before_a_command_runs(root: Path) -> None:
    code = """
import sys
from wsi_ncmi import cli
cli.parser()
heavy = ("torch", "numpy", "pandas", "h5py", "yaml", "pydantic", "openslide", "timm")
print([name for name in heavy if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_as_a_module_and_as_a_script(root: Path) -> None:
    for command in (["-m", "wsi_ncmi.cli"], ["-c", "from wsi_ncmi.cli import main; main()"]):
        done = subprocess.run(
            [sys.executable, *command, "bags", "info", "nowhere.h5"],
            cwd=root,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 1
        assert "ERROR nowhere.h5: no such file" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_log_file_has_the_arguments(tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--log", str(tmp_path / "logs" / "x.log"), "bags", "info", "nowhere.h5"])
    first = (tmp_path / "logs" / "x.log").read_text().splitlines()[0]
    assert json.loads(first.split(" INFO ")[1]) == {"command": "bags", "file": "nowhere.h5"}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["plan", "--config", "c", "--rate", "0"], "--rate: 0: expected a number above 0"),
        (["plan", "--config", "c", "--rate", "nan"], "--rate: nan: expected a number above 0"),
        (["plan", "--config", "c", "--dim", "1.5"], "--dim: invalid int value: '1.5'"),
        (["tiles", "show", "s", "--count", "-1"], "--count: -1: expected a number above 0"),
    ],
)
def test_numbers_that_make_no_sense(
    arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == 2
    assert text in capsys.readouterr().err


# --- configurations of commands before a run -----------------------------------------------------


def config(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_configurations_are_merged_key_by_key(tmp_path: Path) -> None:
    first = config(
        tmp_path / "a.yaml",
        "cohort: x\ntiling: {mpp: 1.0, tile_px: 128}\nslides: {sheet: s.tsv}\ntasks: {t: {}}\n",
    )
    second = config(tmp_path / "b.yaml", "tiling: {mpp: 2.0}\nextraction: {encoder: uni}\n")
    found = sections_of([first, second])
    assert (found.tiling.mpp, found.tiling.tile_px, found.sheet) == (2.0, 128, "s.tsv")
    assert found.extraction.encoder == "uni"
    assert sections_of([second, first]).tiling.mpp == 1.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tilling: {}", "tilling: unknown key"),
        ("tiling: {mpp: -1}", "tiling.mpp"),
        ("extraction: {encodr: x}", "extraction.encodr"),
        ("- a", "holds list, expected keys and values"),
        ("a: [", "cannot be read as YAML"),
        ("slides: {}", "slides.sheet"),
        ("results: [a]", "results: ['a'], expected the name of a folder"),
    ],
)
def test_configurations_that_are_wrong(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected.replace("[", r"\[")):
        sections_of([config(tmp_path / "a.yaml", text)])


def test_a_configuration_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.yaml: no such file"):
        sections_of([str(tmp_path / "gone.yaml")])


def test_the_results_folder_of_a_configuration(tmp_path: Path) -> None:
    path = config(tmp_path / "a.yaml", f"results: {tmp_path}/b/c\n")
    assert sections_of([path]).results == f"{tmp_path}/b/c"
    assert sections_of([config(tmp_path / "b.yaml", "cohort: x")]).results == "results"
    assert nearest_folder(tmp_path / "b" / "c") == tmp_path
    assert nearest_folder(tmp_path / "a.yaml" / "c") == tmp_path
