"""A process of its own for work that C libraries may crash in."""

import multiprocessing
import signal
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from multiprocessing.connection import Connection
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

Work = Callable[[Item], Result]


class WorkerDiedError(Exception):
    """The process ended before it answered: a crash in a library, or too little memory."""

    def __init__(self, exitcode: int) -> None:
        how = f"exit code {exitcode}"
        if exitcode < 0:
            how = f"signal {-exitcode}, {signal.Signals(-exitcode).name}"
            how += " (out of memory?)" if -exitcode == signal.SIGKILL else ""
        super().__init__(f"the process that read it died: {how}")


class Worker(Generic[Item, Result]):
    """Calls a function in another process, one item at a time; a new one after a crash.

    The process ends with its parent, however that ends, after the item that it is working on.

    Args:
        start: called once in the process with `arguments`; its context gives the function. Both
            are pickled.
    """

    def __init__(
        self, start: Callable[..., AbstractContextManager[Work[Item, Result]]], *arguments: Any
    ) -> None:
        self._start, self._arguments = start, arguments
        self._process: Any = None

    def __enter__(self) -> "Worker[Item, Result]":
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def _begin(self) -> None:
        # Not forked: the parent has threads. The child holds its own end of the pipe only, so that
        # it sees the end of the parent.
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, self._start, self._arguments), daemon=True
        )
        self._process.start()
        theirs.close()
        try:
            error, _ = self._pipe.recv()
        except (EOFError, ConnectionError):
            self._end()
            raise RuntimeError("a worker process could not start: its output says why") from None
        if error is not None:
            self._end()
            raise error

    def __call__(self, item: Item) -> Result:
        """The function's result.

        Raises:
            WorkerDiedError: the process died.
            Exception: what the function raised.
        """
        if self._process is None:
            self._begin()
        try:
            self._pipe.send(item)
            error, result = self._pipe.recv()
        except (EOFError, ConnectionError):
            self._process.join()
            exitcode = self._process.exitcode
            self._end()
            raise WorkerDiedError(exitcode) from None
        if error is not None:
            raise error
        return result

    def _end(self) -> None:
        if self._process is not None:
            self._pipe.close()
            self._process.join()
            self._process = None


def _serve(pipe: Connection, start: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    with ExitStack() as stack:
        try:
            work = stack.enter_context(start(*arguments))
        except Exception as error:
            pipe.send((error, None))
            return
        pipe.send((None, None))
        while True:
            try:
                item = pipe.recv()
            except (EOFError, ConnectionError):
                return
            answer: tuple[Exception | None, Any]
            try:
                answer = (None, work(item))
            except Exception as error:
                error.add_note("".join(traceback.format_exception(error)))
                answer = (error, None)
            try:
                pipe.send(answer)
            except BrokenPipeError:
                return
