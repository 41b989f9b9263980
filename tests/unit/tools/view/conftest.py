"""Results that all tests of the viewer read, and none changes."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from made_view import browsing, make_results
from starlette.testclient import TestClient


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`results/demo`."""
    return make_results(tmp_path_factory.mktemp("view"))


@pytest.fixture
def client(results: Path) -> Iterator[TestClient]:
    """A client of a viewer of the results."""
    with browsing(results) as client:
        yield client
