"""What is to be written is looked at before a command runs: one line, and nothing is left."""

from pathlib import Path

import pytest

from wsi_ncmi import cli
from wsi_ncmi.cli import option, target
from wsi_ncmi.errors import OutputError

COMMANDS = {
    "predict": ("folder", "--from r --slides s.svs"),
    "export": ("file", "--from r"),
    "bags sheet": ("file", "--packed p.h5"),
    "bags import": ("file", "bags"),
    "camelyon17 demo": ("folder", "--labels l.csv"),
    "images train": ("folder", ""),
    "images embed": ("file", "--run r --images i"),
    "demo": ("folder", ""),
    "splits audit": ("file", "split.csv"),
    "sheet camelyon17": ("file", "--labels l.csv --version challenge --reason r"),
    "sheet camelyon16": ("file", "--reference r.csv"),
    "sheet bracs": ("file", "--images i"),
    "sheet panda": ("file", "--labels l.csv --images i"),
    "sheet tcga": ("file", "--images i"),
    "plan": ("file", "--config c.yaml"),
    "tiles show": ("folder", "s.svs"),
    "information": ("file", "p.tsv"),
    "predictions export": ("file", "p.parquet"),
    "schema": ("folder", ""),
}
"""Command -> what its --out is, and what else it must be given; none of that is there."""

KINDS = ("a folder stands there: give the name of a file", "is not a folder: give a folder")


def said(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stopped:
        cli.main(words)
    assert stopped.value.code == 1
    return capsys.readouterr().err.strip()


@pytest.mark.parametrize("name", COMMANDS)
def test_out_that_cannot_be_written(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kind, rest = COMMANDS[name]
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    there = tmp_path / ("folder" if kind == "file" else "file")
    for out, text in (
        (there, KINDS[kind == "folder"]),
        (tmp_path / "file/x", "is not a folder: give a folder, or one that can be made"),
        (Path("/proc/x"), "nothing can be written in /proc"),
    ):
        error = said([*name.split(), *rest.split(), "--out", str(out)], capsys)
        assert f"--out {out}: " in error
        assert text in error
        assert "\n" not in error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]
    assert (tmp_path / "file").read_text() == "mine"


def test_every_out_that_people_give_is_looked_at() -> None:
    modules = cli.HEADINGS["Commands that people call"]
    commands = {name: one for module in modules for name, one in module.commands.items()}
    found = {
        name: param.type.kind if isinstance(param.type, option.Target) else "not looked at"
        for name, command in {**commands, "demo": cli.root.commands["demo"]}.items()
        for param in command.params
        if "--out" in param.opts
    }
    assert found == {name: kind for name, (kind, _) in COMMANDS.items()}


def test_what_can_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    target.check(tmp_path / "file", "file", "--out")
    target.check(tmp_path / "a/b", "file", "--out")
    target.check(tmp_path / "a/b", "folder", "--out")
    target.check(tmp_path, "folder", "--out")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    with pytest.raises(OutputError, match="a device stands there"):
        target.check(Path("/dev/null"), "file", "--out")
