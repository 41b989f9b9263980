"""The command line: help, several values of an option, errors; and the documentation's commands."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from wsi_ncmi import cli
from wsi_ncmi.cli.tools import nearest_folder
from wsi_ncmi.config.files import sections_of
from wsi_ncmi.errors import ConfigError

NAMES = sorted(cli.root.commands)
ROOT = Path(__file__).resolve().parents[2]


def parsed(*arguments: str) -> dict[str, object]:
    """The values of a command's options, without running it."""
    context = click.Context(cli.root, info_name="wsi-ncmi")
    name, command, rest = cli.root.resolve_command(context, list(arguments))
    assert command is not None
    return command.make_context(name, rest, parent=context).params


def refused(*arguments: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What is printed of a usage error."""
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("name", NAMES)
def test_help_of_every_command(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main([*name.split(), "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert f"Usage: wsi-ncmi {name} " in text
    command = cli.root.commands[name]
    assert command.help
    assert " ".join(command.help.split()) in text
    for param in command.params:
        if isinstance(param, click.Option):
            assert param.opts[0] in text
            assert param.help, param.opts
        else:
            assert param.name.upper() in command.help or len(command.params) == 1


def test_help_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["--help"])
    text = capsys.readouterr().out
    assert "From whole-slide images to tiles, features and classifiers" in text
    people, workflow = text.split("Commands that people call:")[1].split(
        "Commands that the workflow calls:"
    )
    assert "  tiles show          Draw a slide's tissue" in people
    assert "  tiles               Write tissue masks" in workflow
    assert "..." not in people + workflow
    lines = [line for line in (people + workflow).splitlines() if line.strip()]
    assert len(lines) == len([name for name in NAMES if cli.root.commands[name].params])
    cli.main(["tiles", "show", "--help"])
    text = capsys.readouterr().out
    assert "[default: 24]" in text
    assert "None" not in text


def test_a_first_word_lists_its_commands(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["bags", "--help"])
    text = capsys.readouterr().out
    assert re.findall(r"^  (\w+) ", text.split("Commands:")[1], re.M) == [
        "import",
        "info",
        "sheet",
        "verify",
    ]


def test_a_command_whose_name_begins_another(capsys: pytest.CaptureFixture[str]) -> None:
    """Neither asks for the options of the other, and all that is missing is named."""
    error = refused("tiles", "--out", "o", capsys=capsys)
    assert "Usage: wsi-ncmi tiles [OPTIONS]" in error
    assert "Missing '--sheet', '--manifest'." in error
    error = refused("tiles", "show", capsys=capsys)
    assert "Missing 'SLIDE'." in error
    given = parsed("tiles", "show", "slide.svs", "--count", "3")
    assert (given["slide"], given["count"]) == ("slide.svs", 3)
    given = parsed("tiles", "--sheet", "s", "--out", "o", "--manifest", "m")
    assert (given["sheet"], given["bucket"], given["threads"]) == (Path("s"), 0, 1)


@pytest.mark.parametrize(
    ("arguments", "config", "sheet"),
    [
        (["s.tsv", "--config", "a", "b", "--quick"], ["a", "b"], "s.tsv"),
        (["--config", "a", "--config", "b", "--quick", "s.tsv"], ["a", "b"], "s.tsv"),
        (["--config", "a", "b", "--quick", "--config", "c"], ["a", "b", "c"], None),
        (["--config=a", "s.tsv"], ["a"], "s.tsv"),
        (["--config", "a", "b", "--", "s.tsv"], ["a", "b"], "s.tsv"),
    ],
)
def test_several_values_of_an_option(
    arguments: list[str], config: list[str], sheet: str | None
) -> None:
    given = parsed("plan", *arguments)
    assert given["config"] == tuple(map(Path, config))
    assert given["sheet"] == (Path(sheet) if sheet else None)


def test_an_option_of_several_values_without_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert "Option '--config' requires an argument." in refused("plan", "--config", capsys=capsys)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["bgas"], "No such command 'bgas'. Did you mean 'bags'?"),
        (["bags", "inof", "x"], "No such command 'inof'. Did you mean 'info'?"),
        (["tiles", "shw"], "No such command 'tiles shw'. Did you mean 'tiles show'?"),
        (["tile", "show", "x"], "No such command 'tile'. Did you mean 'tiles'?"),
        (["nothing"], "No such command 'nothing'."),
        (["doctor", "--jsn"], "No such option"),
        (["tiles", "x"], "Usage: wsi-ncmi tiles [OPTIONS]"),
        (["bags"], "Usage: wsi-ncmi bags [OPTIONS] COMMAND"),
        ([], "Usage: wsi-ncmi [OPTIONS] COMMAND"),
        (["bags", "import", "x", "--out", "o", "--layout", "clam"], "'clam' is not one of 'auto'"),
        (["pack", "--out", "o"], "Give --bags, or --features with --manifests."),
    ],
)
def test_typing_errors(arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    error = refused(*arguments, capsys=capsys)
    assert text in error
    assert "Usage: wsi-ncmi" in error


def test_nothing_heavy_is_imported_before_a_command_runs(root: Path) -> None:
    code = """
import sys
from wsi_ncmi import cli
assert cli.root.commands
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


def test_the_terminal_does_not_have_the_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["bags", "info", "nowhere.h5"])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("ERROR nowhere.h5: no such file")


def test_a_log_file_has_the_arguments(tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--log", str(tmp_path / "logs" / "x.log"), "bags", "info", "nowhere.h5"])
    first = (tmp_path / "logs" / "x.log").read_text().splitlines()[0]
    assert json.loads(first.split(" INFO ")[1]) == {
        "command": "bags info",
        "file": "nowhere.h5",
    }


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["plan", "--config", "c", "--rate", "0"], "'--rate': 0: expected a number above 0"),
        (["plan", "--config", "c", "--rate", "nan"], "'--rate': nan: expected a number above 0"),
        (["plan", "--config", "c", "--dim", "1.5"], "'--dim': '1.5' is not a valid integer"),
        (["tiles", "show", "s", "--count", "-1"], "'--count': -1: expected a number above 0"),
    ],
)
def test_numbers_that_make_no_sense(
    arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert text in refused(*arguments, capsys=capsys)


SECTIONS = [
    ("{mpp: -1}", "mpp: Input should be greater than 0, found -1"),
    ("{mppp: 1}", "mppp: unknown key (found 1)"),
    ("{mpp: ", "--options: cannot be read as YAML"),
    ("[1]", "configuration: Input should be a valid dictionary"),
]


@pytest.mark.parametrize(("text", "expected"), SECTIONS)
def test_a_section_that_is_wrong(
    text: str, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = ["tiles", "--sheet", "s", "--out", "o", "--manifest", "m", "--options", text]
    with pytest.raises(SystemExit) as stopped:
        cli.main(whole)
    assert stopped.value.code == 1
    error = capsys.readouterr().err
    assert f"ERROR 1 problem(s), fix them and rerun:\n  - {expected}" in error
    assert "Traceback" not in error


def test_what_is_not_the_users_fault_has_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> None:
        raise EOFError("damaged")

    monkeypatch.setattr("wsi_ncmi.tools.bags.info.run", fail)
    with pytest.raises(SystemExit) as stopped:
        cli.main(["--log", str(tmp_path / "x.log"), "bags", "info", "x.h5"])
    assert stopped.value.code == 1
    text = (tmp_path / "x.log").read_text()
    assert "unexpected error: please report it with this log" in text
    assert "Traceback" in text
    assert "EOFError: damaged" in text


# --- configurations of commands before a run -----------------------------------------------------


def config(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


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
        sections_of([tmp_path / "gone.yaml"])


def test_the_results_folder_of_a_configuration(tmp_path: Path) -> None:
    path = config(tmp_path / "a.yaml", f"results: {tmp_path}/b/c\n")
    assert sections_of([path]).results == f"{tmp_path}/b/c"
    assert sections_of([config(tmp_path / "b.yaml", "cohort: x")]).results == "results"
    assert nearest_folder(tmp_path / "b" / "c") == tmp_path
    assert nearest_folder(tmp_path / "a.yaml" / "c") == tmp_path


# --- commands in the documentation ---------------------------------------------------------------

DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "Makefile", "config/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "config").rglob("*.yaml")),
]
# A line of its own, in a block of code, a comment or a recipe, with what continues it.
LINE = re.compile(r"^(?:\s*|#\s+|\t\$\(RUN\) )wsi-ncmi ((?:.*\\\n)*.*)$", re.M)
# Within a sentence: the name of a command, and perhaps some of its options.
INLINE = re.compile(r"`wsi-ncmi ([^`<]+)`")


def documented(pattern: re.Pattern[str]) -> Iterator[tuple[str, str]]:
    for path in DOCUMENTS:
        for found in pattern.finditer(path.read_text()):
            yield path.name, re.sub(r"\\\n(#\s+)?", " ", found[1])  # a comment goes on in comments


@pytest.mark.parametrize(("document", "line"), documented(LINE))
def test_commands_of_the_documentation(document: str, line: str) -> None:
    assert parsed(*shlex.split(line))


@pytest.mark.parametrize(("document", "text"), documented(INLINE))
def test_commands_within_sentences(document: str, text: str) -> None:
    words = shlex.split(text)
    context = click.Context(cli.root, info_name="wsi-ncmi")
    _, command, rest = cli.root.resolve_command(context, words)
    assert command is not None
    known = {name for param in command.get_params(context) for name in param.opts}
    assert {word for word in rest if word.startswith("-")} <= known


def test_the_documentation_is_read() -> None:
    assert len(list(documented(LINE))) > 15
    assert len(list(documented(INLINE))) > 10


RULES = sorted((ROOT / "workflow" / "rules").glob("*.smk"))
CALL = re.compile(r"wsi_ncmi\.cli --log \{log:q\} (.*?)(?: &&|\n\n|\Z)", re.S)


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.stem)
def test_rules_call_commands_with_options_that_there_are(path: Path) -> None:
    for found in CALL.finditer(path.read_text()):
        words = found[1].replace('"', "").split()
        context = click.Context(cli.root, info_name="wsi-ncmi")
        _, command, rest = cli.root.resolve_command(context, words)
        assert command is not None
        options = {name: p for p in command.params for name in p.opts}
        given = {word for word in rest if word.startswith("--")}
        assert given <= set(options)
        assert {name for name, p in options.items() if p.required} <= given
