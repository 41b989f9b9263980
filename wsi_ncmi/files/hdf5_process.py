"""The process in which HDF5 reads, seen from this one: questions, answers, and how it ended."""

import atexit
import errno
import os
import signal
import subprocess
import sys
import threading
from multiprocessing.connection import Pipe
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_ncmi.files import hdf5_worker
from wsi_ncmi.processes import how_it_died

PROCESSOR_SECONDS = 5.0
"""That HDF5 may take to say what a file holds: milliseconds are usual."""
BYTES_PER_SECOND = 5e6
"""That it decodes at the very least."""
FATAL = {
    signal.SIGPROF: "comes to no end in it",
    **dict.fromkeys((signal.SIGSEGV, signal.SIGBUS), "crashes on it"),
    **dict.fromkeys((signal.SIGABRT, signal.SIGFPE, signal.SIGILL), "crashes on it"),
}
"""Signals by which a file ends the process that reads it."""


class DamagedFileError(ValueError):
    """A file is no HDF5, or a damaged one."""


class Hdf5Process:
    """The process in which HDF5 runs: started when it is first asked, and again when it died.

    Not of multiprocessing: whoever reads a file here may be a process of a pool itself, and those
    cannot have children of its kind.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._fatal: dict[Any, str] = {}

    def ask(self, request: str, *arguments: Any, size: int = 0) -> Any:
        """What `hdf5_worker` answers.

        Args:
            size: bytes of the answer, for which it gets time.
        """
        asked = (request, arguments)
        with self._lock:
            if asked in self._fatal:
                raise DamagedFileError(self._fatal[asked])
            if self._process is None or self._owner != os.getpid():
                self._start()
            try:
                seconds = PROCESSOR_SECONDS + size / BYTES_PER_SECOND
                self._connection.send((request, arguments, seconds))
                kind, found, dtype = self._connection.recv()
                if kind == "array":
                    return self._receive(np.empty(found, dtype))
            except (EOFError, OSError):
                self._end(asked)
            except BaseException:  # an interrupted answer would be taken for the next one's
                self.stop()
                raise
        if kind == "error":
            raise OSError(found, dtype) if found else DamagedFileError(dtype)
        return found

    def _receive(self, array: NDArray[Any]) -> NDArray[Any]:
        left = array.reshape(-1).view(np.uint8).data
        while left:
            count = os.readv(self._connection.fileno(), [left])
            if not count:
                raise EOFError
            left = left[count:]
        return array

    def _start(self) -> None:
        self._connection, theirs = Pipe()
        number = theirs.fileno()
        # By its path and not as a module: it needs nothing of the package and starts sooner.
        command = [sys.executable, "-P", hdf5_worker.__file__, str(number)]
        with theirs:
            threads = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
            self._process = subprocess.Popen(
                command, pass_fds=[number], env={**os.environ, **threads}, stdin=subprocess.DEVNULL
            )
        self._owner = os.getpid()

    def _end(self, asked: Any) -> None:
        """Say why the process died, and remember it if that was for what it was asked."""
        assert self._process is not None
        self._connection.close()
        code = self._process.wait()
        self._process = None
        if -code not in FATAL:
            raise OSError(errno.EIO, f"the process that reads HDF5 ended ({how_it_died(code)})")
        self._fatal[asked] = f"HDF5 {FATAL[signal.Signals(-code)]}: the file is damaged"
        raise DamagedFileError(self._fatal[asked])

    def stop(self) -> None:
        """End the process, if this one started it."""
        if self._process is not None and self._owner == os.getpid():
            self._connection.close()  # at which it ends
            self._process.kill()
            self._process.wait()
        self._process = None


HDF5 = Hdf5Process()
atexit.register(HDF5.stop)
