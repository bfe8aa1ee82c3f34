# SPDX-License-Identifier: GPL-2.0-only
"""What the memory map shows, held against the specification: texts, counts, places, outlines."""

from itertools import pairwise

import numpy as np
import pytest

from workbench.abi import Role
from workbench.errors import WorkbenchError
from workbench.lab.checkout import Checkout
from workbench.lab.device_layout import device_layout
from workbench.view import palette
from workbench.view.export import description
from workbench.view.figures import draw, load
from workbench.view.layout import before_after, explore, memory_map, origin_line

SKY, VERMILION, GREY = "#56B4E9", "#D55E00", "#999999"  # further tail, head, base page


@pytest.fixture(scope="module")
def compound():
    return memory_map(device_layout("5.17", "1G", 9), page=1, word=1)


@pytest.fixture(scope="module")
def base():
    return memory_map(device_layout("5.16+3", "1G", 9), page=1, word=1)


def traces(fig, name):
    return [trace for trace in fig.data if trace.name == name]


def texts(fig):
    return [annotation.text for annotation in fig.layout.annotations]


def grid(fig, which=0):
    """Text of a grid's cells by (page, word)."""
    bar = traces(fig, "words")[which]
    return {(int(x), int(base)): text for x, base, text in zip(bar.x, bar.base, bar.text, strict=True)}


def outlined(fig, which=0):
    bar = traces(fig, "words")[which]
    widths = bar.marker.line.width
    return {(int(x), int(y)) for x, y, width in zip(bar.x, bar.base, widths, strict=True) if width == 2}


def legend(fig):
    return [trace.name for trace in fig.data if trace.showlegend]


def in_panel(fig, number):
    axis = "x" if number == 1 else f"x{number}"
    return [trace for trace in fig.data if (trace.xaxis or "x") == axis and not trace.showlegend]


# five panels


def test_the_panels_are_named_from_the_device_to_the_bits(compound):
    headings = [text for text in texts(compound) if text.startswith("<b>") and text[3].isdigit()]
    assert [heading[3] for heading in headings] == ["1", "2", "3", "4", "5"]
    assert "8 sections of 128 MiB" in headings[0]
    assert "64 compound pages of 512 struct pages" in headings[1]
    assert "512 struct pages, from pfn 0x100000" in headings[2]
    assert "first tail, pfn 0x100001" in headings[3]
    assert "+8" in headings[4]
    tops = [compound.layout[f"yaxis{n}" if n > 1 else "yaxis"].domain[1] for n in range(1, 6)]
    assert tops == sorted(tops, reverse=True)


def test_one_legend_with_the_roles_that_are_there(compound, base):
    assert legend(compound) == ["head", "first tail", "second tail", "further tail"]
    assert legend(base) == ["base page"]
    altmap = memory_map(device_layout("5.17", "1G", 9, altmap=True))
    assert legend(altmap)[-2:] == ["altmap (metadata and padding)", "reserved or unpopulated"]


def test_the_device_is_to_scale():
    fig = memory_map(device_layout("5.17", "1G", 9, altmap=True))
    reserve, altmap, data = in_panel(fig, 1)
    pages = 262_144
    assert fig.layout.xaxis.range == (0, pages)
    assert altmap.width[0] == 4606 and data.width[0] == pages - 4608
    assert altmap.marker.pattern.shape == "/" and data.marker.color == SKY
    # two pages of 262,144 would be a hundredth of a pixel: it gets two pixels
    assert reserve.width[0] / pages * 732 == pytest.approx(2)


def test_a_section_shows_every_head_two_pixels_wide(compound):
    heads = next(trace for trace in in_panel(compound, 2) if trace.marker.color == VERMILION)
    assert len(heads.x) == 64
    left = np.array(heads.x) - np.array(heads.width) / 2
    assert left == pytest.approx(512 * np.arange(64))
    assert np.array(heads.width) / 32_768 * 732 == pytest.approx(np.full(64, 2.0))


def test_a_section_with_heads_does_not_claim_to_be_to_scale(compound, base):
    assert "not to scale: heads and first tails are drawn at least 2 px wide" in texts(compound)
    assert not any("heads and first tails" in text for text in texts(base))


@pytest.mark.parametrize("altmap", [False, True])
@pytest.mark.parametrize("order", [9, 18])
def test_a_notebook_figure_fits_jupyterlabs_output_area(order, altmap):
    fig = explore("6.12", order, altmap, page=1, word=0)
    assert fig.layout.width == 820
    _, members = in_panel(fig, 4)
    room = 0.81 * (820 - 64 - 24)
    assert all(0.55 * size * len(line) <= room for size, line in zip(members.textfont.size, members.text, strict=True))


def test_a_section_of_base_pages_is_one_bar(base):
    (bar,) = in_panel(base, 2)
    assert bar.marker.color == GREY and list(bar.width) == [32_768]
    assert any("32,768 base pages" in text for text in texts(base))


def test_the_first_eight_struct_pages_word_by_word(compound):
    cells = grid(compound)
    assert len(cells) == 64
    assert cells[0, 0] == "reserved head" and cells[0, 1] == "pgmap"
    assert [cells[k, 1] for k in range(1, 8)] == ["head | 1"] * 7
    assert (cells[1, 2], cells[1, 3], cells[2, 2]) == ("dtor 1 order 9", "nr 512", "pins 0")
    assert [cells[k, 3] for k in range(2, 8)] == ["TAIL_MAPPING"] * 6
    assert [cells[k, 6] for k in range(8)] == ["map −1 ref 1", *["map −1 ref 0"] * 7]
    assert outlined(compound) == set()


@pytest.mark.parametrize(("order", "rest"), [(9, "504"), (18, "262,136")])
def test_the_other_struct_pages_are_folded(order, rest):
    (folded,) = traces(memory_map(device_layout("5.17", "1G", order)), "folded")
    assert folded.text[0] == f"<b>× {rest}</b><br>alike"


def test_a_deduplicated_compound_says_so():
    (folded,) = traces(memory_map(device_layout("6.1", "1G", 9)), "folded")
    assert "128" in folded.text[0] and "shared" in folded.text[0]
    # never with an altmap, nor on the kernel built without it
    for ds in (device_layout("6.1", "1G", 9, altmap=True), device_layout("6.1-nodedup", "1G", 9)):
        assert "shared" not in traces(memory_map(ds), "folded")[0].text[0]


def test_the_chosen_struct_page_is_taken_apart(compound):
    raw, members = in_panel(compound, 4)
    assert " ".join(raw.text) == (
        "0027ffffc0001000 ffffea0004000001 ffffffff00000901 dead000000000200 "
        "0000000000000000 0000000000000000 00000000ffffffff 0000000000000000"
    )
    assert "compound_order 9" in members.text[2] and "compound_nr 512" in members.text[3]
    assert list(compound.layout.yaxis4.ticktext) == ["+0", "+8", "+16", "+24", "+32", "+40", "+48", "+56"]
    low, high = compound.layout.yaxis4.range
    assert low > high  # memory is read top-down


@pytest.mark.parametrize(
    ("page", "word", "value"),
    [(1, 1, 0xFFFFEA0004000001), (0, 0, 0x0027FFFFC0011000), (1, 2, 0xFFFFFFFF00000901), (2, 3, 0xDEAD000000000400)],
)
def test_bits_run_from_63_to_0(page, word, value):
    fig = memory_map(device_layout("5.17", "1G", 9), page, word)
    (bits,) = traces(fig, "bits")
    assert list(bits.x) == list(range(64))
    assert "".join(bits.text) == f"{value:064b}"
    assert fig.layout.xaxis5.ticktext[0] == "63" and fig.layout.xaxis5.ticktext[-1] == "0"
    assert fig.layout.xaxis5.tickvals[0] == 0 and fig.layout.xaxis5.tickvals[-1] == 63
    # a set bit is filled
    assert [color == "#222222" for color in bits.marker.color] == [bit == "1" for bit in bits.text]


def test_bit_0_of_word_1_is_called_out(compound, base):
    (tail,) = [a for a in compound.layout.annotations if "bit 0" in a.text]
    assert "is set" in tail.text and "tail" in tail.text and tail.x == 63
    (no_tail,) = [a for a in base.layout.annotations if "bit 0" in a.text]
    assert "clear" in no_tail.text


def test_flags_are_bracketed_and_named():
    fig = memory_map(device_layout("5.17", "1G", 9), page=0, word=0)
    for name in ("NODE 0", "ZONE 4 (DEVICE)", "LAST_CPUPID all ones", "page flags"):
        assert name in texts(fig)
    at = {a.text: 63 - a.x for a in fig.layout.annotations if a.text in ("head", "reserved")}
    assert at == {"head": 16, "reserved": 12}
    # 6.12: the order lies in the low byte of a first tail's flags and is no flag
    fig = memory_map(device_layout("6.12", "1G", 9), page=1, word=0)
    assert "order 9" in texts(fig) and "LRU_GEN 0" in texts(fig) and "LRU_REFS 0" in texts(fig)
    assert "locked" not in texts(fig) and "uptodate" not in texts(fig)


def test_labels_of_bits_do_not_overlap():
    for kernel_name in ("5.17", "6.1", "6.12"):
        fig = memory_map(device_layout(kernel_name, "1G", 9), page=1, word=0)
        labels = [a for a in fig.layout.annotations if a.xref == "x5" and not a.showarrow]
        lines = {}
        for label in labels:
            lines.setdefault(label.y, []).append(label)
        for line in lines.values():
            line.sort(key=lambda label: label.x)
            for left, right in pairwise(line):
                # DejaVu Sans at 12 px: some 6.7 px a character, 12.7 px a bit
                room = (right.x - left.x) * 812 / 64
                assert room >= (len(left.text) + len(right.text)) / 2 * 6.5, (kernel_name, left.text, right.text)


def test_choosing_what_is_not_shown_is_refused():
    ds = device_layout("5.17", "1G", 9)
    for page, word in ((8, 0), (0, 8), (-1, 0)):
        with pytest.raises(WorkbenchError, match="struct pages 0 to 7"):
            memory_map(ds, page, word)


@pytest.mark.parametrize(("name", "origin"), [("5.17", "captured"), ("5.16+4", "no capture"), ("5.15", "captured")])
def test_origin_is_said(name, origin):
    line = origin_line(device_layout(name, "4M", 9))
    assert line.startswith("▲ derived") and origin in line


def test_a_pairing_that_never_was_is_labelled():
    assert "no such kernel was released" in origin_line(device_layout("5.10+11", "4M", 9))


@pytest.mark.parametrize("kernel_name", ["5.16+3", "5.17", "6.12"])
def test_caption_and_alt_text_say_what_is_seen(kernel_name):
    caption, alt = description(memory_map(device_layout(kernel_name, "1G", 9)))
    assert kernel_name in caption and "1 GiB" in caption
    assert "262,144 struct pages" in alt and "504" in alt


def test_explore_makes_the_device_once():
    one, two = explore("5.17", 9, page=1, word=1, size="4M"), explore("5.17", 9, page=2, word=6, size="4M")
    assert "".join(traces(two, "bits")[0].text) == f"{0xFFFFFFFF:064b}"
    assert grid(one) == grid(two)


# before | after


def test_changed_words_are_outlined():
    # section 3 of page-layout: base page against head, tail 1, tail 2 and on
    fig = before_after(device_layout("5.16+3", "1G", 9), device_layout("5.16+4", "1G", 9))
    assert outlined(fig, 0) == set()
    assert outlined(fig, 1) == {(0, 0), (1, 1), (1, 2), (1, 3), (1, 6)} | {
        (page, word) for page in range(2, 8) for word in (1, 3, 6)
    }
    assert "word that differs" in legend(fig)
    assert {cell for (_, word), cell in grid(fig, 0).items() if word == 1} == {"pgmap"}
    assert fig.layout.xaxis.range == fig.layout.xaxis2.range  # the same page stands in the same column
    caption, alt = description(fig)
    assert "23 of the 64 words" in caption and "page 1 4" in alt


def test_nothing_is_outlined_where_nothing_changes():
    fig = before_after(device_layout("5.16+2", "4M", 9), device_layout("5.16+3", "4M", 9))
    assert outlined(fig, 1) == set()


def test_two_words_tell_order_9_from_18():
    pair = [device_layout("5.17", "1G", order) for order in (9, 18)]
    assert outlined(before_after(*pair, names=("order 9", "order 18")), 1) == {(1, 2), (1, 3)}


def test_other_pages_cannot_be_compared():
    with pytest.raises(WorkbenchError, match="different struct pages"):
        before_after(device_layout("5.17", "1G", 9), device_layout("5.17", "1G", 9, altmap=True))


# on paper


@pytest.mark.parametrize("id", ["memory-map", "before-after", "init-trace"])
def test_paper_figures_have_the_size_they_were_laid_out_for(id):
    figure, checkout = load()[id], Checkout.find()
    natural, inputs = figure.build(checkout)
    assert (figure.width_px, figure.height_px) == (natural.layout.width, natural.layout.height)
    assert inputs.series and not inputs.files
    assert description(draw(figure, checkout)[0]) == (figure.caption, figure.alt)


def test_what_the_before_after_caption_counts():
    figure = load()["before-after"]
    assert "other 504 columns are like the last" in figure.caption
    assert int(device_layout("5.16+4", "1G", 9).alike) == int(device_layout("5.16+3", "1G", 9).alike) == 504
    assert "The head changes in one bit, each tail in three or four words" in figure.caption
    head = device_layout("5.16+3", "1G", 9).words[0].values ^ device_layout("5.16+4", "1G", 9).words[0].values
    assert [int(word).bit_count() for word in head] == [1, 0, 0, 0, 0, 0, 0, 0]


def test_roles_keep_their_colours():
    assert palette.ROLES[Role.TAIL].fill == SKY and palette.ROLES[Role.HEAD].fill == VERMILION
    assert palette.ROLES[Role.ZONE_DEVICE].fill == GREY


def test_both_releases_are_named_and_words_that_read_alike_are_told_of():
    fig = before_after(device_layout("5.10", "1G", 9), device_layout("6.12", "1G", 9))
    subtitle = fig.layout.title.subtitle.text
    assert "before: such a kernel is captured" in subtitle and "after: such a kernel is captured" in subtitle
    caption, _ = description(fig)
    assert "6 of them read alike" in caption  # PG_reserved is bit 12 on 5.10 and bit 13 on 6.12: tails 2 to 7
    within = before_after(device_layout("5.16+3", "1G", 9), device_layout("5.16+4", "1G", 9))
    assert "read alike" not in description(within)[0] and "before:" not in within.layout.title.subtitle.text
