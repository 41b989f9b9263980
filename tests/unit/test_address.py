"""`~` and `$NAME` in users' paths."""

from pathlib import Path

import pytest

from wsi_ncmi.address import expanded, no_such


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("SCRATCH", "/scratch/a b")
    monkeypatch.delenv("NOWHERE", raising=False)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("~/slides", "/home/me/slides"),
        ("~", "/home/me"),
        ("$SCRATCH/x", "/scratch/a b/x"),
        ("${SCRATCH}x", "/scratch/a bx"),
        ("s3://bucket/$SCRATCH/~", "s3://bucket//scratch/a b/~"),
        ("a~b/$NOWHERE$", "a~b/$NOWHERE$"),
        ("results", "results"),
    ],
)
def test_it_is_expanded_as_in_a_shell(path: str, expected: str) -> None:
    assert expanded(path) == expected


def test_files_of_a_package_are_found_without_importing_it() -> None:
    import wsi_ncmi

    folder = Path(wsi_ncmi.__file__).parent
    assert expanded("package:wsi_ncmi/images/data.py") == str(folder / "images/data.py")
    assert expanded("package:no_such/x") == "package:no_such/x"
    assert no_such("package:no_such/x") == (
        "package:no_such/x: no such file or folder (no Python package 'no_such' is installed here)"
    )


def test_what_the_environment_lacks_is_named() -> None:
    text = (
        "$NOWHERE/x ${NO}: no such file or folder ($NOWHERE, ${NO} is not set in the environment)"
    )
    assert no_such("$NOWHERE/x ${NO}") == text
    assert no_such("~nobody-here/x") == (
        "~nobody-here/x: no such file or folder (~nobody-here: no such user)"
    )
    assert no_such("x", "file") == "x: no such file"
