"""One function over many inputs, in worker processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import connection
from typing import TypeVar

Input = TypeVar("Input")
Output = TypeVar("Output")


def map_in_workers(
    function: Callable[[Input], Output], inputs: Sequence[Input], workers: int
) -> Iterator[Output]:
    """The function's values as they come, in any order; with one worker here and in order.

    Raises what the function raises, once the other workers have ended; ``BrokenProcessPool``
    where one was killed. Where this process itself is killed, the workers end with it.
    """
    if workers == 1 or len(inputs) < 2:
        yield from map(function, inputs)
        return
    # Fresh processes: forking after another library has started threads can hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        min(workers, len(inputs)), mp_context=context, initializer=_begin_worker
    ) as pool:
        jobs = [pool.submit(function, value) for value in inputs]
        try:
            for job in as_completed(jobs):
                yield job.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _begin_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # A worker would go on with what it was given, beside the run that takes the killed one's place.
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
