# SPDX-License-Identifier: GPL-2.0-only
"""What verifying captures gave, as lines for people and as JSON for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from workbench.lab.captures.replay import Tally
from workbench.lab.captures.verify import DIFFERENT, EQUAL, NOT_REPLAYABLE, NOT_YET, CaptureReport, StateReport
from workbench.text import count

NOT_COMPARED = (
    "milliseconds in log lines",
    "nr_foll_pin_*",
    "page-table frames",
    "user addresses beyond their residue",
    "memory_kB",
)
"""What a replay never compares; everything else that is recorded is."""


def as_json(reports: Iterable[CaptureReport]) -> dict[str, Any]:
    """The reports in the form ``{"captures": [{"name", "states": [...], "cases": [...]}]}``."""
    return {
        "captures": [
            {
                "name": report.name,
                "states": [_state_json(state) for state in report.states],
                "cases": [
                    {"name": c.name, "group": c.group, "status": c.status, "recorded": c.recorded, "got": c.got}
                    for c in report.cases
                ],
            }
            for report in reports
        ]
    }


def _state_json(state: StateReport) -> dict[str, Any]:
    return {
        "name": state.name,
        "status": state.status,
        "pages": state.pages.pages,
        "pages_left_out": state.pages.pages_left_out,
        "bytes_compared": state.pages.bytes_compared,
        "bytes_different": state.pages.bytes_different,
        "results": state.results.compared,
        "results_different": state.results.different,
        "results_assumed": state.results.assumed,
    }


def as_text(reports: Iterable[CaptureReport]) -> Iterator[str]:
    """The reports for people: one line a state, a second one where it differs; cases by group and status.

    A run's last line tells of what was done after its last state or case.
    """
    for report in reports:
        yield from _lines(report)


def summary(reports: Sequence[CaptureReport]) -> str:
    """All reports in one line."""
    statuses = Counter(state.status for report in reports for state in report.states)
    statuses += Counter(case.status for report in reports for case in report.cases)
    parts = [f"{count(statuses[status])} {status}" for status in (EQUAL, DIFFERENT, NOT_YET, NOT_REPLAYABLE)]
    assumed = sum(state.results.assumed for report in reports for state in report.states)
    assumed += sum(report.trailing.results.assumed for report in reports)
    return f"{count(len(reports))} runs, states and cases: {', '.join(parts)}; {count(assumed)} results assumed."


def _lines(report: CaptureReport) -> Iterator[str]:
    yield f"{report.name}: kernel {report.kernel.name}"
    for state in report.states:
        p, r = state.pages, state.results
        line = f"  {state.status:<15}{state.name:<44}"
        if p.pages or p.pages_left_out:
            line += f" {count(p.pages):>7} pages, {count(p.pages_left_out)} left out,"
            line += f" {count(p.bytes_different)} bytes differ;"
        yield f"{line} {_results(r)}"
        if state.first:
            yield f"    {state.first}"
    for (group, status), number in sorted(Counter((c.group, c.status) for c in report.cases).items()):
        yield f"  {status:<15}{count(number)} cases of group {group}"
    if report.trailing.actions:
        reached = "reached" if report.trailing.reached else "not reached"
        actions = f"{count(report.trailing.actions)} actions after the last state or case"
        yield f"  {'trailing':<15}{actions}, {reached}; {_results(report.trailing.results)}"
        if report.trailing.results.first:
            yield f"    {report.trailing.results.first}"


def _results(tally: Tally) -> str:
    return f"results {tally.compared} compared, {tally.different} differ, {tally.assumed} assumed"
