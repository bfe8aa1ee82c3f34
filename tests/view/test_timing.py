# SPDX-License-Identifier: GPL-2.0-only
"""The timing views: published marks as printed, modelled times from counts by hand, a reason, and what is touched."""

from __future__ import annotations

import re

import pytest

from workbench import text
from workbench.errors import WorkbenchError
from workbench.lab.cost import seed_fit
from workbench.lab.pin_events import GET_FAST, PATHS, PIN_FAST, PUT_PAGE, UNPIN, UNPIN_RANGE
from workbench.lab.published import published
from workbench.lab.sweep import Point
from workbench.view.choices import PLOTLY
from workbench.view.explorer.clicks import Clicks
from workbench.view.explorer.timing import TimingExplorer
from workbench.view.export import description
from workbench.view.timing import MEDIA, STATES, Timing, measure, timing_figure, touched, values, why

GiB, MiB2 = 1 << 30, 2 << 20


def drawn(figure, name: str) -> list[float]:
    """Values of a line of the upper panel."""
    (found,) = (trace for trace in figure.data if trace.name == name)
    return list(found.y)


def test_published_times_are_drawn_as_printed():
    figure = timing_figure(Timing(16 * GiB, MiB2, "pmem", "5.16+11", UNPIN))
    for state, after in (("without the series", False), ("with the series", True)):
        printed = [published()[f"seed-{size}-altmap-put"].ms(after) for size in (16384, 127004)]
        assert sorted(drawn(figure, f"published, {state}")) == sorted(printed)
    assert "published, 6.1, folios" not in [trace.name for trace in figure.data]


def test_mails_are_not_mixed():
    """Version 4 printed its own pin without the series: a mark of its own, and no ratio with the letter's."""
    figure = timing_figure(Timing(127004 << 20, MiB2, "pmem", "5.16+0", PIN_FAST))
    letter, other = published()["seed-127004-altmap-get"], published()["grab-once-127004-altmap-pin"]
    assert letter.ms(False) in drawn(figure, "published, without the series")
    assert other.ms(False) in drawn(figure, "published in version 4, without the series")
    gains = [y for trace in figure.data if trace.yaxis == "y2" and "diamond" in trace.marker.symbol for y in trace.y]
    assert sorted(gains) == sorted(
        published()[f"seed-{size}-altmap-get"].ms(False) / published()[f"seed-{size}-altmap-get"].ms(True)
        for size in (16384, 127004)
    )


def test_the_marks_of_the_point_chosen_are_ringed_and_its_values_said():
    at = Timing(127004 << 20, MiB2, "pmem", "5.16+11", UNPIN)
    figure = timing_figure(at)
    above, below = (
        trace for trace in figure.data if trace.name in ("the point chosen", None) and trace.marker.size > 20
    )
    printed = published()["seed-127004-altmap-put"].ms(True)
    assert sorted(above.y) == sorted([at.ms(), printed]) and len(below.y) == 2
    assert values(at) in figure.layout.title.subtitle.text and f"published {printed:.0f} ms" in values(at)


def test_every_mark_knows_its_point():
    run = {Point(MiB2, MiB2, state): {"get": [1.0], "put": [1.0]} for state in ("before", "after")}
    figure = timing_figure(Timing(GiB, MiB2, "dram", "5.16+11", UNPIN), run)
    marks = [trace for trace in figure.data if trace.marker.symbol != "circle-open"]
    assert {name for trace in marks for name, _ in trace.customdata} == set(STATES)
    for trace in marks:
        assert len(trace.customdata) == len(trace.hovertext) == len(trace.x)
        for (kernel, size), x, said in zip(trace.customdata, trace.x, trace.hovertext, strict=True):
            assert x == pytest.approx(size, rel=0.2) and STATES[kernel].label in said
            assert text.size(size, exact=True) in said


def test_a_medium_that_nobody_measured_has_no_published_mark_and_says_so():
    figure = timing_figure(Timing(16 * GiB, MiB2, "cxl", "5.16+11", UNPIN))
    assert figure.layout.meta["origin"] == "modelled"
    assert "EXTRAPOLATED (cxl)" in description(figure)[0]


def test_the_model_is_its_prices_times_counts_by_hand():
    """unpin_user_pages() of 512 pages: each line read, two written, three locked; without: 512, 512, 1024."""
    pmem = seed_fit().media["pmem"]
    compound = 512 * pmem.read_ns + 2 * pmem.write_ns + 3 * pmem.locked_ns
    base = 512 * (pmem.read_ns + pmem.write_ns + 2 * pmem.locked_ns)
    assert Timing(MiB2, MiB2, "pmem", "5.16+11", UNPIN).ms() == pytest.approx(compound / 1e6)
    assert Timing(MiB2, MiB2, "pmem", "5.16+0", UNPIN).ms() == pytest.approx(base / 1e6)
    assert f"{base / compound:.1f}× faster" in why(Timing(MiB2, MiB2, "pmem", "5.16+11", UNPIN))


def test_why_names_the_dominating_event():
    assert "locked operations" in why(Timing(GiB, MiB2, "dram", "5.16+11", PIN_FAST))
    assert why(Timing(GiB, MiB2, "dram", "5.16+11", PIN_FAST)).endswith("as long as without the series")
    assert re.search(r"of it writing changed lines back$", why(Timing(GiB, MiB2, "pmem", "5.16+0", UNPIN)))
    assert "saves writing changed lines back" in why(Timing(GiB, MiB2, "pmem", "6.1", UNPIN))


@pytest.mark.parametrize("path", PATHS)
def test_every_path_medium_and_align_is_drawn_on_log_axes(path):
    for place in MEDIA:
        for align in (4 << 10, MiB2, GiB):
            figure = timing_figure(Timing(GiB, align, place, "6.1", path))
            axes = (figure.layout.xaxis, figure.layout.yaxis, figure.layout.yaxis2)
            assert [axis.type for axis in axes] == ["log"] * 3
            low, high = (10**end for end in figure.layout.yaxis2.range)
            gains = [y for trace in figure.data if trace.yaxis == "y2" for y in trace.y]
            assert low < min(gains) <= max(gains) < high


def test_measured_points_have_their_samples_as_bars():
    run = {
        Point(GiB, MiB2, state): {"get": [1.0, 3.0, 2.0], "put": [k, k + 2.0]}
        for k, state in ((5.0, "before"), (1.0, "after"))
    }
    at = Timing(GiB, MiB2, "dram", "5.16+11", PIN_FAST)
    (line,) = (trace for trace in timing_figure(at, run).data if trace.name == "measured, with the series")
    assert (list(line.y), list(line.error_y.array), list(line.error_y.arrayminus)) == ([2.0], [1.0], [1.0])
    put = timing_figure(Timing(GiB, MiB2, "dram", "5.16+11", UNPIN), run)
    assert drawn(put, "measured, without the series") == [6.0]
    for other in (Timing(GiB, MiB2, "pmem", "5.16+11", PIN_FAST), Timing(GiB, MiB2, "dram", "5.16+11", PUT_PAGE)):
        assert "measured" not in timing_figure(other, run).layout.meta["origin"]


def test_this_machine_measures_both_states():
    found = measure(MiB2, MiB2, samples=2)
    assert set(found) == {Point(MiB2, MiB2, "before"), Point(MiB2, MiB2, "after")}
    assert all(len(ms) == 2 and min(ms) > 0 for phases in found.values() for ms in phases.values())
    with pytest.raises(WorkbenchError, match="Choose another size"):
        measure(4 * GiB, MiB2)


@pytest.mark.parametrize("kernel", STATES)
def test_what_a_path_touches_is_played_to_its_end(kernel):
    shown, said = touched(Timing(16 * GiB, MiB2, "pmem", kernel, UNPIN))
    written = 512 if kernel == "5.16+0" else 2
    assert f"{written} written" in said and said.startswith("unpin_user_pages() of 512 pages")
    names = [one.name for one in shown.model.operations(shown.shown.pfn)]
    assert names[shown.shown.op] == "unpin_user_pages() of 512 pages"
    assert shown.shown.step == len(shown.model.operations(shown.shown.pfn)[shown.shown.op])


def test_points_that_cannot_be_are_refused():
    with pytest.raises(WorkbenchError, match="no counts for kernel"):
        Timing(GiB, MiB2, "dram", "4.9", UNPIN)
    with pytest.raises(WorkbenchError, match="multiple of its align"):
        Timing(MiB2, GiB, "dram", "6.1", UNPIN)


def test_a_click_chooses_and_shows_what_is_touched():
    panel = TimingExplorer()
    drawings = []
    panel.figure.observe(lambda change: drawings.append(change.new), names="outputs")
    clicks = next(one for one in panel.children if isinstance(one, Clicks))
    clicks._handle_custom_msg({"clicked": ["5.16+0", 127004 << 20]}, [])
    assert (panel.size.value, panel.kernel.value, panel.show.value) == (127004 << 20, "5.16+0", True)
    assert panel.point == Timing(127004 << 20, MiB2, "pmem", "5.16+0", UNPIN) and len(drawings) == 1
    (shown,) = panel.touched.children
    assert "512 written" in panel.said.value
    begin, shown.state = shown.state, f"tree=5.16+0/pgmap=0/pfn={shown.shown.pfn + 3:#x}"
    clicks._handle_custom_msg({"clicked": ["5.16+0", GiB]}, [])
    assert panel.touched.children == (shown,) and shown.state == begin, "the same map, at the end of the path again"
    clicks._handle_custom_msg({"clicked": ["6.1", GiB]}, [])
    assert "read, 2 written" in panel.said.value and panel.touched.children[0] is not shown


def test_without_a_kernel_the_chart_stands_in_its_place():
    measured = {Point(GiB, MiB2, state): {"get": [1.0], "put": [1.0]} for state in ("before", "after")}
    bundle = TimingExplorer(measured, size=GiB, place="dram")._repr_mimebundle_()
    assert "1 GiB, with the series" in bundle[PLOTLY]["layout"]["title"]["subtitle"]["text"]
    assert "measured" in bundle["text/plain"] and bundle[PLOTLY]["config"]["showSendToCloud"] is False


def test_the_explorer_follows_its_controls():
    panel = TimingExplorer()
    assert len(panel.figure.outputs) == 1 and panel.touched.children == ()
    panel.show.value = True
    (shown,) = panel.touched.children
    assert "read, 2 written" in panel.said.value and shown.model.kernel.name == "5.16+11"
    panel.kernel.value = "5.16+0"
    panel.path.value = UNPIN_RANGE
    assert "512 written" in panel.said.value
    panel.path.value = GET_FAST
    assert "It touches:</strong> get_user_pages_fast()" in panel.said.value
    panel.align.value = GiB
    panel.size.value = MiB2
    assert panel.figure.outputs == () and panel.touched.children == () and "No such point" in panel.said.value
    panel.show.value = False
    panel.align.value = MiB2
    panel.path.value = PIN_FAST
    panel.measure.click()
    assert panel.place.value == "dram" and "Measured" in panel.said.value
