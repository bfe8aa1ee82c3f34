# SPDX-License-Identifier: GPL-2.0-only
"""The picture of a failing byte says what the machine did: marks, entries, addresses, verdict, order of locks."""

import pytest

from workbench.errors import WorkbenchError
from workbench.lab.checkout import Checkout
from workbench.lab.hwpoison import poisoned, recorded_marks
from workbench.view import palette
from workbench.view.choices import Choices
from workbench.view.export import description
from workbench.view.hwpoison import explore_poison, marks_table, order_of_steps, poisoned_byte, verdict

WITHOUT_1 = "5.16+=2,3,4,5,6,7,8,9,10,11"


@pytest.fixture(scope="module")
def shown():
    names = ("5.16+0", "5.16+11", WITHOUT_1)
    made = {name: poisoned(name, "2M", "20K") for name in names}
    made["bug"] = poisoned("5.16+11", "2M", "20K", "4K")
    made["neighbour"] = poisoned("5.16+11", "2M", "20K", "4K", neighbour=True)
    return made


def texts(fig):
    return [annotation.text for annotation in fig.layout.annotations]


def drawn(trace):
    """Whether a trace is more than an entry of the legend."""
    return bool(trace.x) and trace.x[0] is not None


def frames(fig):
    """Left edges of the thick frames around marked struct pages."""
    return [trace.x[0] for trace in fig.data if trace.line.width == 4 and drawn(trace)]


def boxes(fig, words):
    """Centres of the boxes that hold a word."""
    return [note.x for note in fig.layout.annotations if note.text == words]


def test_the_marked_page_is_framed_and_the_failing_one_crossed(shown):
    fig = poisoned_byte(shown["5.16+0"], shown["5.16+11"])
    left, right = sorted(frames(fig))
    crosses = sorted(note.x for note in fig.layout.annotations if note.text == "<b>✕</b>" and note.y < 100)
    assert left < crosses[0] < left + 34  # before: the frame is around the cross
    assert right + 34 < crosses[1]  # after: around the head, left of it
    assert [
        trace.fillcolor for trace in fig.data if trace.line.width == 4 and drawn(trace) and trace.x[0] == right
    ] == [palette.VERMILION]


def test_entries_and_addresses(shown):
    fig = poisoned_byte(shown["5.16+0"], shown["neighbour"])
    assert len(boxes(fig, "cleared")) == 3 + 2
    assert len(boxes(fig, "mapped")) == 3
    said = texts(fig)
    assert "SIGBUS: huge page 1 + 20 KiB, 2 MiB lost, action required" in said
    assert "SIGBUS: huge page 2, start, 2 MiB lost, action optional" in said
    assert said.count("no signal") == 2
    assert any("(wrong)" in words for words in said)


@pytest.mark.parametrize(
    "name, good, words",
    [
        ("5.16+0", True, "3 entries cleared"),
        ("5.16+11", True, "3 entries cleared"),
        ("bug", False, "nobody told, page still mapped"),
        ("neighbour", False, "huge page 2 is told of and unmapped instead"),
        (WITHOUT_1, False, "the kernel dies"),
    ],
)
def test_the_verdict(shown, name, good, words):
    assert verdict(shown[name])[0] == good
    assert words in verdict(shown[name])[1]


def test_all_texts_fit_their_half(shown):
    wide = poisoned("5.16+10", "1G", "512M", "4K", neighbour=True)  # base pages and a wrong index: the longest texts
    for each in (*shown.values(), wide):
        fig = poisoned_byte(each, each)
        for note in fig.layout.annotations:
            if note.xanchor == "left" and note.x < 400:
                plain = note.text.replace("<b>", "").replace("</b>", "")
                share = 0.61 if note.text.startswith("<b>") else 0.53  # of the font size, an average character
                assert note.x + len(plain) * note.font.size * share < 425, note.text


def test_order_of_locks(shown):
    fig = order_of_steps(shown["5.16+11"], shown[WITHOUT_1])
    said = texts(fig)
    assert said.index("compound_head()") < said.index("<b>SetPageHWPoison()</b>") < said.index("put_dev_pagemap()")
    bars = [trace for trace in fig.data if drawn(trace)]
    assert len(bars) == 2 + 1  # pgmap, and i_mmap with the tasks; the kernel that dies held the pgmap only
    assert any("the kernel dies" in words for words in said)
    for bar in bars:
        assert max(y for y in bar.y if y is not None) > min(y for y in bar.y if y is not None)


def test_alt_text_tells_the_story(shown):
    caption, alt = description(poisoned_byte(shown["5.16+0"], shown["bug"]))
    assert "page 5 marked; p0 is told of huge page 1" in alt
    assert "page 0 marked; p0 is told nothing, p1 is told nothing, p2 is told nothing" in alt
    assert "Derived" in caption


def test_choices_show_what_is_refused():
    with pytest.raises(WorkbenchError):
        explore_poison("2M", 1 << 21, 0, "5.16+11", next_page_touched=False)
    both = Choices(
        explore_poison, align=["2M"], poisoned_at=[0], first_touched_at=[0], kernel=["5.17"], next_page_touched=[False]
    )
    assert "kernel 5.17" in " ".join(texts(both.shown))


def test_the_table_of_real_kernels():
    text = str(marks_table(recorded_marks(Checkout.find().data / "captures")))
    assert "byte 2,097,152" in text and "no signal" in text
