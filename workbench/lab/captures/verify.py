# SPDX-License-Identifier: GPL-2.0-only
"""A recorded run, replayed and compared state by state."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

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


@dataclass(frozen=True)
class TrailingReport:
    """What was done after the last state or case: how its results compare.

    Attributes
    ----------
    actions : int
    reached : bool
        The struct pages that they leave are known, every one.
    results : Tally
    """

    actions: int
    reached: bool
    results: Tally

    @property
    def passed(self) -> bool:
        """Nothing was done, or all of it was computed and is as recorded."""
        return not self.actions or (self.reached and not self.results.different and not self.results.assumed)


@dataclass
class CaptureReport:
    """How one run compares."""

    name: str
    kernel: Kernel
    trailing: TrailingReport
    states: list[StateReport] = field(default_factory=list)
    cases: list[CaseReport] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Nothing differs, nothing is out of reach, nothing was assumed."""
        statuses = {state.status for state in self.states} | {case.status for case in self.cases}
        return (
            statuses <= {EQUAL, NOT_REPLAYABLE}
            and not any(state.results.assumed or state.results.different for state in self.states)
            and self.trailing.passed
        )


def verify(capture: Capture) -> CaptureReport:
    """Replay a run and compare every recorded struct page and result.

    Raises
    ------
    WorkbenchError
        The capture contradicts itself, or its kernel is unknown.
    """
    kernel = kernel_of(capture)
    replay = Replay(kernel)
    states = []
    for state in capture.states:
        replay.do_all(state.actions)
        states.append(_state(state, replay))
    cases = [
        CaseReport(c.name, c.group, NOT_YET if c.replayable else NOT_REPLAYABLE, c.result, None) for c in capture.cases
    ]
    cases += [CaseReport(a["op"], "boot", NOT_YET, a.get("result", {}), None) for a in capture.actions]
    # Before the trailing actions of a run of cases lies all that the cases did: nothing of it is replayed.
    replay.do_all(capture.trailing_actions if states else ())
    trailing = TrailingReport(len(capture.trailing_actions), replay.knows(), replay.tally)
    return CaptureReport(capture.name, kernel, trailing, states, cases)


def _state(state: State, replay: Replay) -> StateReport:
    if not state.replayable:
        # Whatever happened, its outcome is not determined by the actions: start anew at the next binding.
        replay.lose_track()
        return StateReport(state.name, NOT_REPLAYABLE, Comparison(), replay.tally)
    inside = replay.in_device_memory(state.image.pfns)
    if replay.array is None or not replay.knows(state.image.pfns[inside]):
        status = DIFFERENT if replay.tally.different else NOT_YET
        return StateReport(state.name, status, Comparison(), replay.tally)
    pages = compare(state.image, inside, replay.array, replay.pointers)
    same = not pages.bytes_different and not replay.tally.different
    return StateReport(state.name, EQUAL if same else DIFFERENT, pages, replay.tally)
