"""Work that a step's own work does not wait for, beside it on the GPU."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


class Aside:
    """A second branch of the CUDA graph that is recorded; without one, work is done in its place.

    Small kernels leave most of a GPU idle: in a branch of their own they cost a step nothing, as
    long as the step has others to run until `join`.
    """

    def __init__(self) -> None:
        self.stream: torch.cuda.Stream | None = None
        self.read: list[Tensor] = []

    @contextmanager
    def branch(self, *read: Tensor) -> Iterator[None]:
        """Inside, kernels are of the branch.

        Args:
            read: tensors of the step that they read: their memory is kept until `join`. Nothing
                else that they read may change before.
        """
        if not (read[0].is_cuda and torch.cuda.is_current_stream_capturing()):
            yield
            return
        if self.stream is None:
            self.stream = torch.cuda.Stream(read[0].device)
        self.read += read
        self.stream.wait_stream(torch.cuda.current_stream(read[0].device))
        with torch.cuda.stream(self.stream):
            yield

    def join(self) -> None:
        """The step goes on when the branch is done."""
        if self.read:
            assert self.stream is not None
            torch.cuda.current_stream(self.read[0].device).wait_stream(self.stream)
            self.read.clear()
