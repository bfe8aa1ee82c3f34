# SPDX-License-Identifier: GPL-2.0-only
import pytest

from workbench.errors import WorkbenchError
from workbench.view.palette import PROVENANCE
from workbench.view.summary import MARKS, Beside, Html, Table, mark, provenance_legend


def test_text_and_html_say_the_same():
    table = Table("Counts.", ["", "a<b"], [["x & y", Html("<b>7</b>")]])
    assert repr(table).splitlines() == ["Counts.", "         a<b", "  x & y    7"]
    html = table._repr_html_()
    assert "a&lt;b" in html and "x &amp; y" in html and "<b>7</b>" in html and "<caption" in html
    assert html.count('scope="col"') == 2 and html.count('scope="row"') == 1


def test_a_table_takes_its_colours_from_the_page():
    html = Table("c", ["a"], [["b"]])._repr_html_()
    assert "background" not in html and ";color:" not in html


@pytest.mark.parametrize(("rows", "align"), [([["1"]], ""), ([["1", "2"]], "l"), ([["1", "2", "3"]], "lr")])
def test_rows_have_one_cell_a_column(rows, align):
    with pytest.raises(WorkbenchError, match="columns"):
        Table("c", ["a", "b"], rows, align)


def test_long_cells_wrap():
    lines = repr(Table("c", ["a"], [["word " * 30]])).splitlines()
    assert len(lines) > 3 and max(map(len, lines)) <= 62


def test_every_provenance_has_a_mark_of_its_own():
    assert len({mark(kind) for kind in PROVENANCE}) == len(PROVENANCE) == 5
    assert set(MARKS) == {look.symbol for look in PROVENANCE.values()}
    legend = repr(provenance_legend())
    for kind in ("published", "captured", "derived", "measured", "modelled"):
        assert kind in legend and mark(kind) in legend
    with pytest.raises(WorkbenchError):
        mark("guessed")


def test_tables_side_by_side_keep_their_text():
    one, other = Table("one", ["a"], [["1"]]), Table("other", ["b"], [["2"]])
    assert repr(Beside((one, other))) == f"{one!r}\n\n{other!r}"
    html = Beside((one, other))._repr_html_()
    assert html.index("one") < html.index("other") and "flex" in html
