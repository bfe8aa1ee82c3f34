# SPDX-License-Identifier: GPL-2.0-only
"""The map of the series, against the table of the series as it was posted and merged."""

import pytest

from workbench.series import PATCHES
from workbench.view.export import description
from workbench.view.series_map import EFFECTS, LANES, lanes, mail_url, series_figure, series_table

WHERE = {
    1: {"memory-failure"},
    2: {"page_alloc"},
    3: {"page_alloc"},
    4: {"page_alloc", "memremap"},
    5: {"dax/device"},
    6: {"dax/device"},
    7: {"dax/device", "dax/bus"},
    8: {"dax/device"},
    9: {"dax/device"},
    10: {"dax/device"},
    11: {"dax/device"},
}
CHANGES_STRUCT_PAGES = {4, 5, 9, 11}


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: str(patch.number))
def test_each_patch_stands_where_it_works(patch):
    assert {LANES[at] for at in lanes(patch)} == WHERE[patch.number]


def test_every_file_has_a_lane():
    for patch in PATCHES:
        for file in patch.files:
            assert sum(lane in file for lane in LANES) == 1, file


def test_mails_are_numbered_behind_the_cover_letter():
    assert mail_url(1) == "https://lore.kernel.org/r/20211202204422.26777-2-joao.m.martins@oracle.com"
    assert mail_url(11) == "https://lore.kernel.org/r/20211202204422.26777-12-joao.m.martins@oracle.com"


def test_filled_squares_are_the_patches_that_change_struct_pages():
    fig = series_figure()
    rows = {trace.name: sorted(set(trace.y)) for trace in fig.data}
    heights = sorted({y for ys in rows.values() for y in ys})
    number = {y: at for at, y in enumerate(heights, 1)}
    assert {number[y] for y in rows["changes struct pages"]} == CHANGES_STRUCT_PAGES
    assert {number[y] for y in rows["leaves every struct page as it was"]} == set(range(1, 12)) - CHANGES_STRUCT_PAGES


def test_one_curve_for_each_need():
    curves = [shape for shape in series_figure().layout.shapes if "C" in shape.path]
    assert len(curves) == 3  # 8 to 9, 8 to 10, 4 to 11


def test_the_figure_is_described():
    fig = series_figure()
    caption, alt = description(fig)
    assert "Published" in caption
    for words in ("patch 9 builds on 8", "patch 10 builds on 8", "patch 11 builds on 4", "4, 5, 9 and 11"):
        assert words in alt
    assert fig.layout.meta["origin"] == "published, derived"


def test_the_table_has_title_claim_links_and_effect():
    html = series_table()._repr_html_()
    for patch in PATCHES:
        assert f'href="{mail_url(patch.number)}"' in html
        assert f'href="https://git.kernel.org/torvalds/c/{patch.commit[:12]}"' in html
    lines = repr(series_table())
    assert "use struct_size()" in lines and "dev_dax->pgmap" in lines and "<" not in lines


def test_every_patch_that_changes_struct_pages_says_what():
    assert set(EFFECTS) >= CHANGES_STRUCT_PAGES
    for number in set(range(1, 12)) - CHANGES_STRUCT_PAGES:
        assert EFFECTS.get(number, "nothing").startswith("nothing")
