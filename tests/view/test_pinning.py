# SPDX-License-Identifier: GPL-2.0-only
"""The figures of a pin draw what the engine counted."""

import pytest

from workbench.errors import WorkbenchError
from workbench.lab.pinning import mapped_device, pin_and_release, recorded_traffic
from workbench.view import pinning
from workbench.view.export import description

READ, WRITTEN, UNTOUCHED = (pinning._LOOKS[how][1] for how in ("read", "written", "untouched"))


@pytest.fixture(scope="module")
def cases():
    return pinning.three_kernels()


def area(fig, fill):
    """Cells filled so, counted from the boxes."""
    cells = 0
    for trace in fig.data:
        if trace.fill == "toself" and trace.fillcolor == fill:
            for at in range(0, len(trace.x), 6):
                width, height = trace.x[at + 1] - trace.x[at], trace.y[at + 2] - trace.y[at]
                cells += width * height / pinning._CELL_PX**2
    return cells


def test_every_line_is_a_cell_of_its_colour(cases):
    fig = pinning.lines_figure(cases)
    # pin: 512, 2, 2 lines written; release: 512, 2, 2. Read only: 510, 1 and 510, 510. One grab touches 3.
    assert area(fig, WRITTEN) == 512 + 2 + 2 + 512 + 2 + 2
    assert area(fig, READ) == 510 + 1 + 510 + 510
    assert area(fig, UNTOUCHED) == 509


def test_a_square_stands_where_a_real_kernel_counted_the_same(cases):
    recorded = recorded_traffic()
    texts = [note.text for note in pinning.lines_figure(cases, recorded).layout.annotations]
    assert sum("■" in text for text in texts) == 4  # 5.16's code as recorded on 5.15, and 5.17; never one grab
    other = {key: tuple(pair[::-1]) for key, pair in recorded.items()}
    assert not any("■" in note.text for note in pinning.lines_figure(cases, other).layout.annotations)


def test_the_texts_tell_the_numbers(cases):
    caption, alt = description(pinning.lines_figure(cases))
    assert "2 lines written, 512 touched, 1,536 locked operations" in alt and "pin_user_pages_fast()" in caption


def test_different_calls_are_not_compared(cases):
    with pytest.raises(WorkbenchError, match="2 different calls"):
        pinning.lines_figure([cases[0], pin_and_release(mapped_device("5.17"), 4)])


def test_a_step_shows_the_word_just_stored():
    few = pin_and_release(mapped_device("5.17"), 4)
    fig = pinning.pin_step(few, 11)
    (cells,) = [trace for trace in fig.data if trace.name == "words"]
    assert "pins 4" in cells.text and "map −1 ref 5" in cells.text
    assert "pins 3" in next(trace for trace in pinning.pin_step(few, 10).data if trace.name == "words").text
    with pytest.raises(WorkbenchError, match="0 to 11"):
        pinning.pin_step(few, 12)


def test_words_while_held():
    fig = pinning.last_stores(*(pin_and_release(mapped_device(name)) for name in ("5.16", "5.17")))
    before, after = [trace for trace in fig.data if trace.name == "words"]
    assert list(before.text).count("map −1 ref 1025") == 4
    assert "map −1 ref 513" in after.text and "pins 512" in after.text


def test_traffic_beside_the_engines():
    table = pinning.traffic_table(recorded_traffic(), ["5.17"])
    assert {row[-1] for row in table.rows} == {"equal"}
    assert table.rows[3][:4] == ["5.17", "2M", "put", "3 | 3"]
