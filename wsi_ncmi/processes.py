"""Pools of processes for work that may crash or that needs a device of its own."""

import multiprocessing
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from pebble import ProcessPool, concurrent

T = TypeVar("T")


@contextmanager
def process_pool(count: int, begin: Callable[[], Any] | None = None) -> Iterator[ProcessPool]:
    """A pool whose processes end with the block: at once if it raises (a full disk, say).

    A process that dies takes its own task with it (`pebble.ProcessExpired`) and no other; the pool
    starts another one.

    Args:
        begin: called in each process before its first task.
    """
    # Not forked: libraries may hold locks in threads of their own.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPool(count, initializer=begin, context=context)
    try:
        yield pool
        pool.close()
    except BaseException:
        pool.stop()
        raise
    finally:
        pool.join()


def within(seconds: float, work: Callable[[], T]) -> T:
    """What `work` returns, if it does so in time.

    It runs in a thread that is left behind if it does not, and that holds up nothing, not even the
    end of the process.

    Raises:
        TimeoutError: it took longer.
    """
    found: T = concurrent.thread(daemon=True)(work)().result(timeout=seconds)
    return found


def how_it_died(exitcode: int) -> str:
    """A process's exit code in words."""
    if exitcode >= 0:
        return f"exit code {exitcode}"
    memory = " (out of memory?)" if -exitcode == signal.SIGKILL else ""
    return f"signal {-exitcode}, {signal.Signals(-exitcode).name}{memory}"
