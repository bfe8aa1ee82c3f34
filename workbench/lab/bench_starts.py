# SPDX-License-Identifier: GPL-2.0-only
"""Measure fresh processes: from import to the first result."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from tempfile import TemporaryDirectory
from time import monotonic

from workbench.errors import WorkbenchError
from workbench.lab.bench_samples import Pace, Samples
from workbench.lab.checkout import Checkout

STARTS = ("cold", "warm")


def measure_starts(
    checkout: Checkout,
    samples: Samples,
    cold: int,
    pace: Pace,
) -> None:
    """Time :mod:`workbench.lab.first_result` in fresh processes.

    Parameters
    ----------
    checkout : Checkout
        Where they start.
    samples : Samples
        ``samples.starts`` grows.
    cold : int
        How many without any compiled kernel.
    pace : Pace
        As many repetitions find compiled kernels.  A step is a process; the one that the deadline finds running
        is ended, its sample lost.
    """
    with TemporaryDirectory(prefix="workbench-starts-") as folder:
        plan = [("cold", f"{folder}/{number}") for number in range(cold)] + [("warm", f"{folder}/0")] * pace.repetitions
        for start, cache in plan:
            try:
                samples.starts[start].append(_first_result(checkout, cache, pace.deadline))
            except subprocess.TimeoutExpired:
                return
            pace.done()


def _first_result(checkout: Checkout, cache: str, deadline: float | None) -> tuple[float, float]:
    environment = {**os.environ, "NUMBA_CACHE_DIR": cache}
    command = [sys.executable, "-m", "workbench.lab.first_result"]
    left = None if deadline is None else max(0.0, deadline - monotonic())
    ran = subprocess.run(command, cwd=checkout.root, env=environment, capture_output=True, text=True, timeout=left)
    if ran.returncode:
        raise WorkbenchError(f"a fresh process gave no first result:\n{ran.stderr.strip()}\nRun make setup.")
    said = json.loads(ran.stdout)
    return said["cpu_seconds"], said["seconds"]
