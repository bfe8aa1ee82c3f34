# SPDX-License-Identifier: GPL-2.0-only
"""What the figures and tables of patches 4 to 7 say: teardown, rounding, size and life of a pgmap."""

import pytest

from workbench.lab.checkout import Checkout
from workbench.lab.dynamic_pgmap import dynamic_life, static_life
from workbench.lab.pgoff import first_touch, reads_until_told, recorded_failures
from workbench.lab.struct_size import bind_ranges, pgmap_size
from workbench.lab.teardown import teardown, unbind_while_held
from workbench.view.dynamic_pgmap import explore_life, pgmap_lanes
from workbench.view.export import description
from workbench.view.figures import draw, load
from workbench.view.pgoff import KERNELS, explore_rounding, failures_table, reads_table, rounding
from workbench.view.struct_size import bound_table, sizes_figure
from workbench.view.teardown import held_table, teardown_table, teardown_walk


def said(figure):
    return [note.text for note in figure.layout.annotations]


def test_the_rounding_names_the_wrong_huge_page_twice():
    figure = rounding([first_touch(kernel, "2M", "20K") for kernel in KERNELS])
    marks = [text for text in said(figure) if "index" in text]
    assert marks == [
        f"<b>{mark} index {index}</b>" for mark, index in zip("✓✗✗✓", ("512", "1,024", "1,024", "512"), strict=True)
    ]
    arrows = [(note.ax < note.x) for note in figure.layout.annotations if note.showarrow]
    assert arrows == [False, True, True, False]  # to the left is down
    assert "5.16+5: index 1,024, huge page 2" in description(figure)[1]


@pytest.mark.parametrize(("align", "byte"), [("4K", 20480), ("2M", 0), ("1G", 0)])
def test_nothing_is_rounded_where_nothing_can_be(align, byte):
    figure = explore_rounding(align, byte)
    assert not [note for note in figure.layout.annotations if note.showarrow]
    assert not [text for text in said(figure) if "✗" in text]


def test_recorded_failures_side_by_side():
    captures = Checkout.find().data / "captures"
    table = failures_table([recorded_failures(captures, f"k{kernel}-index-2M") for kernel in ("5.15", "5.17")])
    assert table.header == ["failed", "5.15: index", "5.15: told", "5.17: index", "5.17: told"]
    assert len(table.rows) == 5 and not any("✗" in cell for row in table.rows for cell in row[1:3])
    assert [sum("✗" in cell for cell in row[3:]) for row in table.rows] == [2, 2, 2, 2, 0]
    assert table.rows[3][0] == "huge page 31, page 0" and "huge page 32" in table.rows[3][3]


def test_reads_until_told():
    table = reads_table([(kernel, *reads_until_told(kernel, "2M", "20K", most=2)) for kernel in KERNELS[:2]])
    assert [row[1:] for row in table.rows] == [["read 1", "1"], ["never", "2"]]
    assert "given up after 2 reads" in table.caption


def test_the_walk_of_the_teardown():
    figure = teardown_walk([teardown("5.16+3"), teardown("5.16+4", by_one=True), teardown("5.16+4")])
    texts = said(figure)
    assert texts.count("▼") == 10 + 1 + 2 and texts.count("<b>✕</b>") == 1
    assert texts.count("<b>1 → 0</b>") == 13 and texts.count("<b>1</b>") == 1
    assert [text for text in texts if "puts give back" in text] == [
        "<b>✓ 1,024 puts give back the pgmap's 1,024 references</b>",
        "<b>✓ 2 puts give back the pgmap's 2 references</b>",
    ]
    assert any("kernel BUG" in text for text in texts) and "Version 3" in description(figure)[1]


def test_what_the_walk_counts():
    table = teardown_table([teardown("5.16+3"), teardown("5.16+4", by_one=True), teardown("5.16+4")])
    assert [row[:4] for row in table.rows] == [
        ["5.16+3", "9", "1,024", "1,024"],
        ["5.16+4", "9", "2", "1"],
        ["5.16+4", "9", "2", "2"],
    ]
    assert table.rows[1][4] == "–"


def test_a_held_page_on_two_kernels():
    table = held_table([unbind_while_held(kernel) for kernel in ("5.17", "6.1")])
    rows = {row[0]: row[1:] for row in table.rows}
    assert rows["unbind"] == ["waits in memunmap_pages()", "returns"]
    assert rows["struct pages"] == ["16,384 stay", "gone"]
    assert rows["the pipe is closed"] == ["fine", "BUG: page fault"]


def test_sizes_are_drawn_to_scale_and_in_words():
    figure = sizes_figure([(pgmap_size("5.16+5", number), pgmap_size("5.16+6", number)) for number in (0, 1, 4)])
    texts = said(figure)
    assert texts.count("<b>160</b> bytes") == 2 and texts.count("<b>208</b> bytes") == 2
    assert "<b>144</b> bytes: 16 too few for the structure itself" in texts
    assert "<b>SIZE_MAX = 18,446,744,073,709,551,615</b>: ENOMEM" in texts
    boxes = [trace for trace in figure.data if trace.mode == "lines" and len(trace.x) == 6 * 4]
    assert len(boxes) == 2  # four ranges, before and after
    (width,) = {trace.x[1] - trace.x[0] for trace in boxes}
    fixed = next(trace for trace in figure.data if trace.mode == "lines")
    assert (fixed.x[1] - fixed.x[0]) / width == pytest.approx(144 / 16)


def test_devices_bound_on_both():
    pairs = [tuple(bind_ranges(kernel, number) for kernel in ("5.16+5", "5.16+6")) for number in (0, 2)]
    table = bound_table(pairs, ("5.16+5", "5.16+6"))
    assert [list(row) for row in table.rows] == [
        ["0", "ENXIO", "ENXIO", "0", "–"],
        ["2", "bound", "bound", "1,024", "0"],
    ]


def test_the_lanes_of_a_pgmap():
    figure = pgmap_lanes({kernel: dynamic_life(kernel) for kernel in ("5.16+6", "5.16+7")}, "A title")
    texts = said(figure)
    assert (texts.count("<b>✗ EBUSY</b>"), texts.count("<b>✗ EINVAL</b>")) == (2, 2)
    assert (texts.count("<b>in use</b>"), texts.count("<b>freed</b>")) == (3, 3)
    assert {trace.name for trace in figure.data if trace.name} == {
        "NULL",
        "the pgmap it is bound with",
        "memory that was freed",
    }


def test_a_static_lane():
    texts = said(explore_life("5.17", False))
    assert texts.count("<b>in use</b>") == 2 and texts.count("<b>its own</b>") == 1
    assert len(static_life("5.17")) == 3


@pytest.mark.parametrize("name", ["teardown-walk", "pgoff-rounding", "dynamic-pgmap"])
def test_a_paper_figure_is_as_high_as_its_drawing(name):
    paper = load()[name]
    assert paper.build(Checkout.find())[0].layout.height == paper.height_px
    figure, inputs = draw(paper, Checkout.find())
    assert {series.kind for series in inputs.series} == {"derived"} and all(description(figure))
