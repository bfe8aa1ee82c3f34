# SPDX-License-Identifier: GPL-2.0-only
"""A recorded run, replayed and compared state by state."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from workbench.lab.captures.compare import Comparison, compare
from workbench.lab.captures.kernels import kernel_of, options_of
from workbench.lab.captures.reading import Capture, Case, State
from workbench.lab.captures.replay import Replay, Tally, difference_of
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
    first: str = ""


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
    replay = Replay(kernel, options_of(capture), capture.cmdline)
    states = []
    for state in capture.states:
        replay.do_all(state.actions, determined=state.replayable)
        states.append(_state(state, replay))
    cases = [_case(case, replay) for case in capture.cases]
    cases += [_boot_case(action, replay) for action in capture.actions]
    replay.do_all(capture.trailing_actions)
    trailing = TrailingReport(len(capture.trailing_actions), replay.knows(), replay.tally)
    return CaptureReport(capture.name, kernel, trailing, states, cases)


def _state(state: State, replay: Replay) -> StateReport:
    if not state.replayable:
        replay.start_from(state.image)
        return StateReport(state.name, NOT_REPLAYABLE, Comparison(), Tally())
    if replay.array is None or not replay.knows():
        status = DIFFERENT if replay.tally.different else NOT_YET
        return StateReport(state.name, status, Comparison(), replay.tally)
    pages = compare(state.image, replay.in_device_memory(state.image.pfns), replay.array, replay.pointers_now())
    same = not pages.bytes_different and not replay.tally.different
    return StateReport(state.name, EQUAL if same else DIFFERENT, pages, replay.tally)


def _case(case: Case, replay: Replay) -> CaseReport:
    """What was done before a case belongs to it: a difference there is one of the case."""
    replay.case = case.name
    replay.do_all(case.before)
    before = replay.tally
    got = replay.result_of(case.action | {"result": case.result})
    if not case.replayable:
        return CaseReport(case.name, case.group, NOT_REPLAYABLE, case.result, got)
    if got is None:
        return CaseReport(case.name, case.group, NOT_YET, case.result, None)
    difference = before.first or difference_of(case.result, got)
    return CaseReport(case.name, case.group, DIFFERENT if difference else EQUAL, case.result, got, difference)


def _boot_case(action: dict[str, Any], replay: Replay) -> CaseReport:
    recorded, got = action.get("result", {}), replay.result_of(action)
    status = NOT_YET if got is None else DIFFERENT if difference_of(recorded, got) else EQUAL
    return CaseReport(action["op"], "boot", status, recorded, got)
