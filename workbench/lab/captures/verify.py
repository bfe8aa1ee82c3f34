# SPDX-License-Identifier: GPL-2.0-only
"""A recorded run, replayed and compared state by state."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from workbench.errors import WorkbenchError
from workbench.lab.captures.compare import Comparison, compare
from workbench.lab.captures.kernels import kernel_of
from workbench.lab.captures.reading import Capture, State
from workbench.lab.captures.replay import Replay, Tally
from workbench.series import Kernel

EQUAL, DIFFERENT, NOT_YET, NOT_REPLAYABLE = "equal", "different", "not-yet", "not-replayable"


@dataclass(frozen=True)
class StateReport:
    """How one recorded state compares."""

    name: str
    status: str
    pages: Comparison
    results: Tally

    @property
    def first(self) -> str:
        """The first difference, in words; empty where there is none."""
        return self.pages.first or self.results.first


@dataclass(frozen=True)
class CaseReport:
    """How one recorded case of an errors or boot run compares."""

    name: str
    group: str
    status: str
    recorded: dict[str, Any]
    got: dict[str, Any] | None


@dataclass
class CaptureReport:
    """How one run compares."""

    name: str
    kernel: Kernel
    states: list[StateReport] = field(default_factory=list)
    cases: list[CaseReport] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Nothing differs, nothing is out of reach, nothing was assumed."""
        reached = all(one.status in (EQUAL, NOT_REPLAYABLE) for one in [*self.states, *self.cases])
        return reached and not any(state.results.assumed for state in self.states)


def verify(capture: Capture) -> CaptureReport:
    """Replay a run and compare every recorded struct page and result.

    Raises
    ------
    WorkbenchError
        The capture contradicts itself, or its kernel is unknown.
    """
    kernel = kernel_of(capture)
    report = CaptureReport(capture.name, kernel)
    try:
        if capture.kind == "pages":
            _replay_states(capture, Replay(kernel), report)
    except (KeyError, TypeError, ValueError, AttributeError) as wrong:
        raise WorkbenchError(
            f"{capture.name}: an action does not have the form of a recorded one "
            f"({type(wrong).__name__}: {wrong}). Correct the capture."
        ) from wrong
    report.cases += [
        CaseReport(c.name, c.group, NOT_YET if c.replayable else NOT_REPLAYABLE, c.result, None) for c in capture.cases
    ]
    report.cases += [CaseReport(a["op"], "boot", NOT_YET, a.get("result", {}), None) for a in capture.actions]
    return report


def _replay_states(capture: Capture, replay: Replay, report: CaptureReport) -> None:
    for state in capture.states:
        replay.tally = Tally()
        for action in state.actions:
            replay.do(action)
        report.states.append(_state(state, replay))


def _state(state: State, replay: Replay) -> StateReport:
    if not state.replayable:
        # Whatever happened, its outcome is not determined by the actions: start anew at the next binding.
        replay.lose_track(None)
        return StateReport(state.name, NOT_REPLAYABLE, Comparison(), replay.tally)
    if not replay.known:
        return StateReport(state.name, NOT_YET, Comparison(), replay.tally)
    pages = compare(state.spans, replay.array, replay.device_memory, replay.pointers)
    same = not pages.bytes_different and not replay.tally.different
    return StateReport(state.name, EQUAL if same else DIFFERENT, pages, replay.tally)
