# SPDX-License-Identifier: GPL-2.0-only
"""What the trace figures show: stores where they were made, who made them, which ones are wiped."""

import numpy as np
import pytest

from workbench.errors import WorkbenchError
from workbench.lab.head_order import trace_compound, trace_head_first
from workbench.lab.split import compare_split
from workbench.lab.trace import trace_prep_compound_page
from workbench.mm.events import Site
from workbench.series import kernel
from workbench.view.export import description
from workbench.view.figures import load
from workbench.view.player import after_store, head_store, stores_shown
from workbench.view.split import split_figure
from workbench.view.trace import FUNCTIONS, init_trace, who_stores

PITCH = 9  # eight words and a gap


@pytest.fixture(scope="module")
def figure():
    return init_trace(trace_compound("5.16+4", 9), trace_head_first("5.16+4", 9))


def marks(fig, function, panel=1):
    """(store, page, word) of a function's marks in a panel."""
    axis = "x" if panel == 1 else f"x{panel}"
    label = FUNCTIONS[function].label
    return [
        (int(x), *divmod(int(base), PITCH))
        for trace in fig.data
        if trace.name == label and (trace.xaxis or "x") == axis and not trace.showlegend
        for x, base in zip(trace.x, trace.base, strict=True)
    ]


def texts(fig):
    return [annotation.text for annotation in fig.layout.annotations]


def test_every_function_of_the_engine_has_a_look():
    known = {site.c_name for site in Site if site <= Site.prep_compound_head}  # those of initialisation
    assert known == set(FUNCTIONS)


def test_the_head_part_lies_between_tail_2_and_tail_3(figure):
    # 5.17: destructor, order, mapcount at +16 and number of pages at +24 of tail 1, pin count at +16 of tail 2
    head = marks(figure, "prep_compound_head")
    assert sorted((page, word) for _, page, word in head) == [(1, 2), (1, 2), (1, 2), (1, 3), (2, 2)]
    cleared = marks(figure, "mm_zero_struct_page")
    assert max(store for store, page, _ in cleared if page == 2) < min(store for store, *_ in head)
    assert max(store for store, *_ in head) < min(store for store, page, _ in cleared if page == 3)
    # eight words of four pages
    assert sorted((page, word) for _, page, word in cleared) == [(p, w) for p in range(4) for w in range(8)]


def test_each_tail_is_prepared_once_and_its_count_zeroed(figure):
    tails = sorted((page, word) for _, page, word in marks(figure, "prep_compound_tail"))
    assert tails == [(page, word) for page in (1, 2, 3) for word in (1, 3)]
    assert [(page, word) for _, page, word in marks(figure, "set_page_count")] == [(1, 6), (2, 6), (3, 6)]
    assert [(page, word) for _, page, word in marks(figure, "__SetPageHead")] == [(0, 0)]


def test_crosses_stand_where_clearing_tail_1_wipes(figure):
    (crosses,) = [trace for trace in figure.data if trace.name == "wipes"]
    assert crosses.xaxis == "x2"
    places = {divmod(int(y), PITCH) for y in crosses.y}
    assert places == {(1, 2), (1, 3)}
    cleared = {(store, page, word) for store, page, word in marks(figure, "mm_zero_struct_page", 2)}
    assert {(int(x), *divmod(int(y), PITCH)) for x, y in zip(crosses.x, crosses.y, strict=True)} <= cleared
    ties = [shape for shape in figure.layout.shapes if shape.line.dash == "dot" and shape.xref == "x2"]
    head = {(store, page, word) for store, page, word in marks(figure, "prep_compound_head", 2)}
    assert {(shape.x1, shape.y1) for shape in ties} == set(zip(crosses.x, crosses.y, strict=True))
    assert all(shape.y0 == shape.y1 and (shape.x0, *divmod(int(shape.y0), PITCH)) in head for shape in ties)
    assert any("4 of 5 black stores wiped" in text for text in texts(figure))
    assert any(text.startswith("0 of 5") for text in texts(figure))


def test_what_is_left_behind_is_said(figure):
    (good,) = [text for text in texts(figure) if "leaves behind" in text]
    (bad,) = [text for text in texts(figure) if "would be left behind" in text]
    assert "page 1 +16: dtor 1 order 9" in good and "page 1 +24: nr 512" in good and "page 2 +16: pins 0" in good
    # 1024 is 0x400, the lower half of TAIL_MAPPING
    assert "page 1 +16: dtor 0 order 0" in bad and "page 1 +24: nr 1024" in bad


def test_time_runs_right_memory_runs_down(figure):
    for axis in ("", "2"):
        low, high = figure.layout[f"yaxis{axis}"].range
        assert low > high
        labels = [label.replace("<br>", " ") for label in figure.layout[f"yaxis{axis}"].ticktext]
        assert labels == ["0 head", "1 first tail", "2 second tail", "3 tail"]
    assert figure.layout.xaxis.range == figure.layout.xaxis2.range


def test_6_12_waits_one_page_less_and_loses_two_words_of_a_list():
    fig = init_trace(trace_compound("6.12", 9), trace_head_first("6.12", 9))
    assert "second struct page" in fig.layout.title.text
    crosses = [trace for trace in fig.data if trace.name == "wipes" and (trace.xaxis or "x") == "x"]
    assert {divmod(int(y), PITCH) for y in crosses[0].y} == {(2, 2), (2, 3)}


def test_the_paper_caption_counts_what_the_figure_shows(figure):
    caption = load()["init-trace"].caption
    assert "wipes four of its five stores" in caption
    assert "order 0 and 1024 pages" in caption
    assert len(marks(figure, "prep_compound_head", 2)) == 5


def test_who_stores_before_and_after_the_split():
    traces = [trace_prep_compound_page(kernel(name), 2) for name in ("5.16+1", "5.16+2")]
    fig = who_stores(*traces)
    before = marks(fig, "__SetPageHead", 1) + marks(fig, "prep_compound_page", 1)
    tails, head = marks(fig, "prep_compound_tail", 2), marks(fig, "prep_compound_head", 2)
    assert before == marks(fig, "__SetPageHead", 2) + tails + head  # same places, same order
    assert len(tails) == 2 * 3 and len(head) == 5
    assert marks(fig, "prep_compound_page", 2) == [] and marks(fig, "prep_compound_head", 1) == []
    assert "same words, the same values" in fig.layout.title.text
    other = who_stores(traces[0], trace_prep_compound_page(kernel("6.1"), 2))
    assert "not the same" in other.layout.title.text


def test_the_matrix_of_the_split_turns_black_on_a_difference():
    same = compare_split([1, 9], ["5.17", "6.12"])
    good = split_figure(same)
    assert not np.any(good.data[0].z) and good.layout.title.text.startswith("0 of ")
    worse = same.copy(deep=True)
    worse.bytes_different[1, 0] = 3  # order 9, 5.17
    bad = split_figure(worse)
    assert bad.data[0].z.tolist() == [[0, 1], [0, 0]] and bad.data[0].text[0][1] == "3"
    assert bad.layout.title.text.startswith("3 of ")
    assert "3 of 4 cells are equal" in description(bad)[1]


# store by store


@pytest.fixture(scope="module")
def trace():
    return trace_compound("5.16+4", 9)


def cells(fig):
    (bar,) = [one for one in fig.data if one.name == "words"]
    return {(int(x), int(y)): text for x, y, text in zip(bar.x, bar.base, bar.text, strict=True)}


def outline(fig):
    (bar,) = [one for one in fig.data if one.name == "words"]
    widths = bar.marker.line.width
    return [(int(x), int(y)) for x, y, width in zip(bar.x, bar.base, widths, strict=True) if width == 2]


def test_the_slider_ends_before_the_fifth_page(trace):
    # head: 17 stores of init and PG_head; a tail: 17, two of prep_compound_tail, one of the count; five of the head
    assert stores_shown(trace) == range(18 + 3 * 20 + 5)


def test_it_begins_where_the_head_is_prepared(trace):
    fig = after_store(trace, head_store(trace))
    assert fig.layout.title.text == f"Store {head_store(trace)}: prep_compound_head()"
    assert outline(fig) == [(1, 2)]
    assert cells(fig)[1, 2] == "dtor 1 order 9" and cells(fig)[3, 0] == "0"
    assert "0000000000000901 → ffffffff00000901" in fig.layout.title.subtitle.text


def test_the_last_step_is_what_the_kernel_leaves(trace):
    last = cells(after_store(trace, len(stores_shown(trace)) - 1))
    assert [last[k, 1] for k in range(4)] == ["pgmap", *["head | 1"] * 3]
    assert last[1, 3] == "nr 512" and last[2, 3] == last[3, 3] == "TAIL_MAPPING"
    assert [last[k, 6] for k in range(4)] == ["map −1 ref 1", *["map −1 ref 0"] * 3]


@pytest.mark.parametrize("store", [0, 17, 40])
def test_each_step_outlines_the_word_it_stored(trace, store):
    place = (int(trace.pfn[store] - trace.page[0]), int(trace.word[store]))
    fig = after_store(trace, store)
    assert outline(fig) == [place]
    assert f"page {place[0]} +{8 * place[1]}" in description(fig)[0]


def test_a_store_behind_the_shown_pages_is_refused(trace):
    for store in (-1, len(stores_shown(trace))):
        with pytest.raises(WorkbenchError, match="0 to 82"):
            after_store(trace, store)
