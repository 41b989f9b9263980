"""The process that stages are forked from, started when a test first asks for it."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


class StageServer:
    """`stage_server.py` in a process of its own: nothing of pytest's is in its children."""

    def __init__(self, root: Path, folder: Path) -> None:
        script = root / "tests" / "robustness" / "stage_server.py"
        self.process = subprocess.Popen(
            [sys.executable, str(script), str(folder)],
            cwd=root,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._answer() == {"ready": True}

    def __call__(self, do: str, **request: Any) -> Any:
        """What it answers to a request, see the methods of its `Server`."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": do, **request}) + "\n")
        self.process.stdin.flush()
        answer = self._answer()
        assert "crash" not in answer, answer["crash"]
        return answer

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the server ended; its output says why"
        return json.loads(line)

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(60)


@pytest.fixture(scope="session")
def stages(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StageServer]:
    """Stages to be killed, limited and measured."""
    if not sys.platform.startswith("linux"):
        pytest.skip("processes are counted by their group, which Linux alone lets a test adopt")
    server = StageServer(root, tmp_path_factory.mktemp("stages"))
    yield server
    server.close()
