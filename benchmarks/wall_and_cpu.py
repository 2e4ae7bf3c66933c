"""Both clocks of a process."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray


def wall_and_cpu_s() -> NDArray[np.float64]:
    """``(2,)``: seconds by the wall clock, and of CPU time of this process with its threads.

    Other load on the machine lengthens the first, and the second much less. What lies between two
    calls is their difference.
    """
    return np.array([time.perf_counter(), time.process_time()])
