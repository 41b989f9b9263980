"""Claims between processes: one owner each, and none that outlives its process."""

import errno
import fcntl
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from wsi_ncmi.claims import Claims, _place, claimed
from wsi_ncmi.errors import OutputError

# Another process: it claims names, says which it got, and lives until its input ends.
OTHER = """
import sys
from pathlib import Path
from wsi_ncmi.claims import Claims
claims = Claims(Path(sys.argv[1]))
print(*[int(claims.take(name)) for name in sys.argv[2:]], flush=True)
for line in sys.stdin:
    claims.release(line.strip())
    print("released", flush=True)
"""
Other = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def other(tmp_path: Path, root: Path) -> Iterator[Other]:
    """Starts another process that tries to claim names; all are ended."""
    started = []

    def start(*names: str, got: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", OTHER, str(tmp_path), *names]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        process = subprocess.Popen(command, cwd=root, **pipes)
        started.append(process)
        assert process.stdout.readline().strip() == got
        return process

    yield start
    for process in started:
        process.stdin.close()
        process.stdout.close()
        process.wait(10)


@pytest.fixture
def claims(tmp_path: Path) -> Iterator[Claims]:
    with Claims(tmp_path) as found:
        yield found


def end(process: subprocess.Popen[str]) -> None:
    process.stdin.close()
    process.wait(10)


def test_a_name_has_one_owner(claims: Claims, other: Other) -> None:
    assert claims.take("a")
    assert claims.take("a"), "it is ours: asking again does no harm"
    other("a", "b", got="0 1")
    assert not claims.take("b")
    assert claims.take("c")


def test_a_released_name_is_free(claims: Claims, other: Other) -> None:
    holder = other("a", got="1")
    assert not claims.take("a")
    holder.stdin.write("a\n")
    holder.stdin.flush()
    assert holder.stdout.readline() == "released\n"
    assert claims.take("a")
    claims.release("a")
    other("a", got="1")


def test_closing_releases_all(tmp_path: Path, other: Other) -> None:
    with Claims(tmp_path) as claims:
        assert claims.take("a")
        assert claims.take("b")
    other("a", "b", got="1 1")


@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGTERM, None])
def test_the_death_of_its_owner_releases(
    claims: Claims, other: Other, kill: signal.Signals | None
) -> None:
    holder = other("a", got="1")
    assert not claims.take("a")
    if kill is not None:
        holder.send_signal(kill)
        holder.wait(10)
    end(holder)
    assert claims.take("a")


def test_waiting_ends_with_the_owner(claims: Claims, other: Other) -> None:
    holder = other("a", got="1")
    subprocess.Popen(["sh", "-c", f"sleep 0.3; kill -9 {holder.pid}"])
    start = time.monotonic()
    assert claims.take("a", wait=True)
    assert time.monotonic() - start > 0.2


def test_the_file_stays_empty_and_is_the_only_one(claims: Claims, tmp_path: Path) -> None:
    assert claims.take("a")
    claims.release("a")
    assert [(path.name, path.stat().st_size) for path in tmp_path.iterdir()] == [(".claims", 0)]


def names(claims: Claims, items: str, poll: float = 0.01) -> Iterator[str | None]:
    return claimed(items, lambda name: name, claims, poll)


def test_items_come_in_order_once_claimed(claims: Claims, other: Other) -> None:
    found = []
    for name in names(claims, "abc"):
        found.append(name)
        other(str(name), got="0")
        claims.release(str(name))
    assert found == ["a", "b", "c"]


def test_items_of_others_come_last_and_are_asked_for_again(claims: Claims, other: Other) -> None:
    holder = other("a", "b", got="1 1")
    items = names(claims, "abc")
    assert [next(items), next(items), next(items)] == ["c", None, None]
    holder.stdin.write("b\n")
    holder.stdin.flush()
    assert holder.stdout.readline() == "released\n"
    assert [next(items), next(items)] == ["b", None]
    end(holder)
    assert [*items] == ["a"]


def test_what_a_dead_process_held_is_taken_over(claims: Claims, other: Other) -> None:
    holder = other("a", got="1")
    items = names(claims, "a")
    assert next(items) is None
    holder.kill()
    holder.wait(10)
    assert next(items) == "a"
    assert [*items] == []


def test_it_rests_between_questions(claims: Claims, other: Other) -> None:
    other("a", "b", got="1 1")
    items = names(claims, "ab", poll=0.2)
    assert next(items) is None
    start = time.monotonic()
    assert next(items) is None
    assert 0.15 < time.monotonic() - start < 2


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP])
def test_a_file_system_without_locks_is_worked_on_alone(
    claims: Claims,
    number: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    asked = []

    def lockf(*arguments: object) -> None:
        asked.append(arguments)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "lockf", lockf)
    with caplog.at_level(logging.WARNING):
        assert [*names(claims, "abc")] == ["a", "b", "c"]
        claims.release("a")
    assert len(asked) == 1
    (record,) = caplog.records
    assert record.getMessage().endswith(
        ".claims: this file system has no locks: run one process only"
    )


def test_other_errors_of_locking_are_raised(
    claims: Claims, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lockf(*_: object) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(fcntl, "lockf", lockf)
    with pytest.raises(OSError, match="broken"):
        claims.take("a")


def test_a_folder_that_cannot_be_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, *_: object) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(OutputError, match=r"\.claims: cannot be written: Permission denied"):
        Claims(tmp_path / "new")


def test_names_do_not_share_a_place() -> None:
    places = [_place(f"slide_{i}") for i in range(20_000)]
    assert len(set(places)) == len(places)
    assert min(places) >= 0
    assert max(places) < 2**60
