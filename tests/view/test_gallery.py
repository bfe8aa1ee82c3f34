# SPDX-License-Identifier: GPL-2.0-only
"""The paper figures of a notebook: each as registered, with every series and file it was drawn from."""

import pytest

from workbench.errors import WorkbenchError
from workbench.lab.checkout import Checkout
from workbench.lab.files import file_hash
from workbench.view import gallery
from workbench.view.figures import load
from workbench.view.palette import NOTEBOOK_PX


def test_a_figure_comes_with_its_series_and_files():
    ((fig, table),) = gallery.pictures(["seed-table"])
    assert fig.layout.title.text == load()["seed-table"].title and fig.layout.width == NOTEBOOK_PX
    assert [row[0] for row in table.rows] == ["◆ published", "✕ modelled", "● measured", "data", "data"]
    for row, name in zip(table.rows[3:], ("data/published/numbers.json", "data/bench/seed_table.nc"), strict=True):
        file = Checkout.find().root / name
        assert row[1:4] == [name, f"{file.stat().st_size:,} B", f"sha256 {file_hash(file)[:16]}"]


def test_figures_come_in_the_order_asked_for():
    titles = [fig.layout.title.text for fig, _ in gallery.pictures(["series-map", "rdma-rounds"])]
    assert titles == [load()[id].title for id in ("series-map", "rdma-rounds")]


def test_the_others_are_all_the_rest():
    rest = gallery.others(("seed-table",))
    assert "seed-table" not in rest and sorted([*rest, "seed-table"]) == list(load())


def test_what_is_not_registered_is_named():
    with pytest.raises(WorkbenchError, match="no paper figure is called nothing"):
        list(gallery.pictures(["seed-table", "nothing"]))


def test_the_notebook_shows_figures_that_there_are():
    source = (Checkout.find().notebooks / "90_paper_figures.ipynb").read_text(encoding="utf-8")
    wanted = ("before-after", "init-trace", "fault-writes", "pin-lines", "seed-table", "altmap-layout", "rdma-rounds")
    for id in (*wanted, "overhead-by-align", "hwpoison-victims"):
        assert f'\\"{id}\\"' in source and id in load()


def test_files_of_one_name_take_one_row():
    ((_, table),) = gallery.pictures(["overhead-by-align"])
    files = sorted((Checkout.find().data / "captures").glob("*/vmemmap.json"))
    rows = {row[1]: row for row in table.rows if row[0] == "data"}
    folded = rows[f"data/captures/*/vmemmap.json: {len(files)} files"]
    assert folded[2] == f"{sum(file.stat().st_size for file in files):,} B"
    assert "data/captures/overhead.json" in rows and len(rows) == 2


def test_captions_are_shown_beside_interactive_figures(monkeypatch):
    shown = []
    monkeypatch.setattr(gallery, "display", lambda *parts: shown.extend(parts))
    gallery.show(["rdma-rounds"])
    assert [type(part).__name__ for part in shown] == ["Figure", "Caption", "Table"]
    assert repr(shown[1]) == load()["rdma-rounds"].caption and 'class="lab-caption"' in shown[1]._repr_html_()
