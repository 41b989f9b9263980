"""Fixtures that all tests share."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SHARED_DATA = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Small tensors run fastest on one thread, and tests may run beside each other."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's root."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real slides, bags and images that stand beside the project, where they do."""
    if not SHARED_DATA.is_dir():
        pytest.skip("../shared/data is not there: real data are tested only where it is")
    return SHARED_DATA
