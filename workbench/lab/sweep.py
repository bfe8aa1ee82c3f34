# SPDX-License-Identifier: GPL-2.0-only
"""A sweep of pinning and unpinning: size × align × state of the series, measured beside modelled.

What measures is given by the caller; the sweep owns the order, the file and the model.  After every point the
file is written anew as a whole, so Ctrl-C or a crash loses one point at most, and the same call goes on
where the last one ended.  Each sample is kept: the spread of a point is that of its samples.

Measured and modelled numbers are two variables of the Dataset and never mixed: what is measured is this
machine's DRAM, what is modelled is a medium of :mod:`workbench.lab.media`, and each variable says its kind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr
from tqdm import tqdm

from workbench.errors import WorkbenchError
from workbench.lab import bench_results
from workbench.lab.cost import KERNELS, seed_fit
from workbench.lab.media import Medium
from workbench.lab.pin_events import pin_events
from workbench.lab.seed_table import PHASES

STATES = tuple(KERNELS)
MEASURED, MODELLED = "measured_ns", "modelled_ns"

_AXES = ("size", "align", "state", "phase")


@dataclass(frozen=True, slots=True)
class Point:
    """What is measured at once: bytes pinned, align in bytes, ``"before"`` or ``"after"`` the series."""

    size: int
    align: int
    state: str

    @property
    def exists(self) -> bool:
        """Whether a device of that align can have that size."""
        return self.size % self.align == 0


Measure = Callable[[Point, int], Mapping[str, Sequence[float]]]
"""Takes a point and the number of samples; gives seconds of all calls for ``get`` and ``put``, one each sample."""


def sweep(
    path: Path,
    measure: Measure,
    sizes: Sequence[int],
    aligns: Sequence[int],
    about: Mapping[str, str | int],
    samples: int = 5,
    media: Sequence[Medium] | None = None,
    progress: bool = True,
) -> xr.Dataset:
    """Measure every point that the file does not have yet.

    Parameters
    ----------
    path : pathlib.Path
        netCDF; made, or gone on with.
    measure : callable
        As :data:`Measure`.
    sizes, aligns : sequence of int
        Bytes.  A size that is no multiple of an align is left out there.
    about : mapping
        Becomes attributes: processor, versions, the hash of the engine.  A file is gone on with only where they
        are the same.
    samples : int
        Of each point.
    media : sequence of Medium, optional
        To be modelled; the fitted DRAM and pmem if not given.
    progress : bool
        Show a bar on stderr.

    Returns
    -------
    xarray.Dataset
        ``measured_ns`` (size, align, state, phase, sample) and ``modelled_ns`` (size, align, state, phase, medium),
        nanoseconds for each 4 KiB page, NaN for what there is not.

    Raises
    ------
    WorkbenchError
        The file is of another sweep, or ``measure`` gives another number of samples.
    KeyboardInterrupt
        Ctrl-C; the file has every point that was done.
    """
    media = list(seed_fit().media.values()) if media is None else list(media)
    run = _empty(sizes, aligns, samples, media, about)
    if path.is_file():
        run = _gone_on_with(path, run)
    todo = [point for point in points(sizes, aligns) if np.isnan(_cell(run, point)).any()]
    for point in tqdm(todo, desc="sweep", unit="point", disable=not progress):
        seconds = measure(point, samples)
        wrong = {phase: len(seconds[phase]) for phase in PHASES if len(seconds[phase]) != samples}
        if wrong:
            raise WorkbenchError(f"{point} was measured {wrong} times instead of {samples}. Give one number a sample.")
        pages = point.size >> 12
        _cell(run, point)[:] = [np.asarray(seconds[phase]) * 1e9 / pages for phase in PHASES]
        bench_results.write(path, run)
    return run


def points(sizes: Sequence[int], aligns: Sequence[int]) -> Iterator[Point]:
    """Every point of a sweep; before and after follow each other, so that a drift of the machine meets both."""
    for size in sizes:
        for align in aligns:
            for state in STATES:
                if (point := Point(size, align, state)).exists:
                    yield point


def medians(run: xr.Dataset) -> xr.Dataset:
    """Median and least and greatest of the samples: ``median``, ``least``, ``greatest``, ns a page."""
    measured = run[MEASURED]
    return xr.Dataset(
        {
            "median": measured.median("sample"),
            "least": measured.min("sample"),
            "greatest": measured.max("sample"),
        }
    )


def gains(run: xr.Dataset) -> xr.Dataset:
    """How many times less time the series takes: ``measured`` (median of before over median of after), ``modelled``."""

    def over(values: xr.DataArray) -> xr.DataArray:
        return values.sel(state="before", drop=True) / values.sel(state="after", drop=True)

    return xr.Dataset({"measured": over(medians(run)["median"]), "modelled": over(run[MODELLED])})


def _empty(
    sizes: Sequence[int], aligns: Sequence[int], samples: int, media: Sequence[Medium], about: Mapping[str, str | int]
) -> xr.Dataset:
    """The Dataset with the model's numbers, nothing measured."""
    shape = (len(sizes), len(aligns), len(STATES), len(PHASES))
    modelled = np.full((*shape, len(media)), np.nan)
    for point in points(sizes, aligns):
        at = (list(sizes).index(point.size), list(aligns).index(point.align), STATES.index(point.state))
        modelled[at] = _modelled(point, media)
    return xr.Dataset(
        {
            MEASURED: ((*_AXES, "sample"), np.full((*shape, samples), np.nan), {"units": "ns", "kind": "measured"}),
            MODELLED: ((*_AXES, "medium"), modelled, {"units": "ns", "kind": "modelled"}),
        },
        coords={
            "size": ("size", np.array(sizes, np.int64), {"units": "B"}),
            "align": ("align", np.array(aligns, np.int64), {"units": "B"}),
            "state": list(STATES),
            "phase": list(PHASES),
            "medium": [medium.name for medium in media],
            "label": ("medium", [medium.label for medium in media]),
        },
        attrs=dict(about),
    )


def _modelled(point: Point, media: Sequence[Medium]) -> list[list[float]]:
    """Nanoseconds a page, by phase and medium."""
    counts = [
        pin_events(path, point.size, point.align, point.state == "after", KERNELS[point.state])
        for path in PHASES.values()
    ]
    return [[medium.ms(events) * 1e6 / events.pages for medium in media] for events in counts]


def _gone_on_with(path: Path, fresh: xr.Dataset) -> xr.Dataset:
    """The sweep of a file, if it is the same as ``fresh`` but for what is measured."""
    old = bench_results.read(path)
    same = set(old.variables) == set(fresh.variables) and dict(old.attrs) == dict(fresh.attrs)
    if not same or not old.drop_vars(MEASURED).equals(fresh.drop_vars(MEASURED)) or old.sizes != fresh.sizes:
        raise WorkbenchError(
            f"{path} holds another sweep: other sizes, aligns, samples, media, machine or engine. Name another file, "
            "or remove it."
        )
    return old


def _cell(run: xr.Dataset, point: Point) -> np.ndarray:
    """float64[phase, sample] of a point, a view."""
    place = {"size": point.size, "align": point.align, "state": point.state}
    values: np.ndarray = run[MEASURED].values
    return values[tuple(run.indexes[name].get_loc(value) for name, value in place.items())]
