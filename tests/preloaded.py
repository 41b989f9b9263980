"""`python -m MODULE …` in children of a process that has imported what the modules need.

Importing PyTorch, scikit-learn and pandas takes most of the time of a small job. Here a process
does it once, and forks for every command: in the caller's folder and environment, on its files,
with the exit code of the command.
"""

import importlib
import json
import os
import pkgutil
import runpy
import select
import shlex
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

READY = b"ready\n"
ALSO = ("snakemake.cli", "snakemake.report", "timm", "wsi_ncmi.cli")


@contextmanager
def preloaded() -> Iterator[Path]:
    """A folder for PATH, whose `python` hands its command to a process that lives meanwhile."""
    with tempfile.TemporaryDirectory(prefix="py-") as name:
        script = Path(name, "python")
        words = [sys.executable, "-IS", __file__, "ask", f"{name}/socket"]
        script.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
        script.chmod(0o755)
        process = subprocess.Popen(
            [sys.executable, __file__, "serve", f"{name}/socket"],
            # A library's threads would not survive the fork.
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == READY, "its output says why"
        yield script.parent
        process.stdin.close()
        process.wait(60)


def ask(address: str, arguments: Sequence[str]) -> int:
    """Hand a command over with this process's files; gives its exit code."""
    request = {"arguments": arguments, "folder": os.getcwd(), "environment": dict(os.environ)}
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(address)
        socket.send_fds(server, [b"\n"], [0, 1, 2])
        server.sendall(json.dumps(request).encode())
        server.shutdown(socket.SHUT_WR)
        code = int(server.recv(8))
    if code < 0:
        os.kill(os.getpid(), -code)
    return code


def serve(address: str) -> None:
    """Fork for every caller, until the input ends."""
    from wsi_ncmi import stages

    names = [f"{stages.__name__}.{one.name}" for one in pkgutil.iter_modules(stages.__path__)]
    for name in (*ALSO, *names):
        importlib.import_module(name)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    os.write(1, READY)
    while listener in select.select([listener, 0], [], [])[0]:
        caller, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            _answer(caller)
            return
        caller.close()
        _reap(os.WNOHANG)
    _reap(0)


def _reap(options: int) -> None:
    """Wait for children that have ended, or for all: their time is then part of the tests'."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, options)[0]:
            pass


def _answer(caller: socket.socket) -> None:
    """Returns in a child's child alone, once the command has been run."""
    _, files, _, _ = socket.recv_fds(caller, 1, 3)
    with caller.makefile("rb") as stream:
        request = json.loads(stream.read())
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        caller.sendall(str(os.waitstatus_to_exitcode(status)).encode())
        os._exit(0)
    caller.close()
    for own, given in enumerate(files):
        os.dup2(given, own)
        os.close(given)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    _run(request["arguments"])


def _run(arguments: Sequence[str]) -> None:
    """As `python -m MODULE …` does."""
    option, module, *rest = arguments
    if option != "-m":
        raise SystemExit(f"expected -m MODULE, found {shlex.join(arguments)}")
    sys.path[0] = os.getcwd()
    sys.argv = [module, *rest]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    if sys.argv[1] == "ask":
        sys.exit(ask(sys.argv[2], sys.argv[3:]))
    serve(sys.argv[2])
