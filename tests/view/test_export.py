# SPDX-License-Identifier: GPL-2.0-only
"""The bytes of an exported figure depend on the figure alone."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import plotly.graph_objects as go
import pytest
from choreographer.browsers.chromium import Chromium

from workbench.errors import WorkbenchError
from workbench.view import export
from workbench.view.export import FORMATS, Exporter, describe, description, figure_json, find_browser
from workbench.view.stamp import stamp_pdf, stamp_svg

from .fixtures import SAMPLES, sample

FIXTURES = Path(__file__).with_name("fixtures.py")
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def exporter() -> Iterator[Exporter]:
    with Exporter() as running:
        yield running


@pytest.fixture(scope="module")
def files(exporter: Exporter) -> dict[str, bytes]:
    """Every sample in every format, in the order of SAMPLES."""
    content = {}
    for name in SAMPLES:
        digest = hashlib.sha256(name.encode()).hexdigest()
        content |= exporter.files(name, sample(name), 640, 400, name, f"Drawing of {name}", digest)
    return content


@pytest.mark.browser
def test_bytes_are_the_same_in_another_process_and_order(files: dict[str, bytes], tmp_path: Path) -> None:
    # here:  bars map lines      there, twice, a browser each:  lines bars map  |  map
    for order in (("lines", "bars", "map"), ("map",)):
        subprocess.run([sys.executable, FIXTURES, "samples", tmp_path, *order], check=True, cwd=Path.cwd())
        for name in order:
            for form in FORMATS:
                assert (tmp_path / f"{name}.{form}").read_bytes() == files[f"{name}.{form}"], f"{name}.{form}"


@pytest.mark.browser
def test_two_figures_in_one_page_have_no_id_in_common(files: dict[str, bytes]) -> None:
    ids = [set(re.findall(rb'\sid="([^"]+)"', files[f"{name}.svg"])) for name in SAMPLES]
    assert all(len(one) > 4 for one in ids)
    assert not (ids[0] & ids[1] or ids[1] & ids[2] or ids[0] & ids[2])


@pytest.mark.browser
def test_every_reference_in_an_svg_has_its_target(files: dict[str, bytes]) -> None:
    for name in SAMPLES:
        text = files[f"{name}.svg"].decode()
        used = set(re.findall(r"url\(['\"]?#([^'\")]+)", text)) | set(re.findall(r'href="#([^"]+)"', text))
        assert used and used <= set(re.findall(r'\sid="([^"]+)"', text))


@pytest.mark.browser
def test_svg_says_what_it_is(files: dict[str, bytes]) -> None:
    root = ET.fromstring(files["bars.svg"])
    title, desc, meta = root.find(f"{SVG}title"), root.find(f"{SVG}desc"), root.find(f"{SVG}metadata")
    assert (title.text, desc.text) == ("bars", "Drawing of bars")
    assert meta.text == f"inputs sha256:{hashlib.sha256(b'bars').hexdigest()}"
    assert root.get("role") == "img"
    assert root.get("aria-labelledby").split() == [title.get("id"), desc.get("id")]
    assert "pages → words" in "".join(root.itertext())


@pytest.mark.browser
def test_pdf_is_whole_and_says_what_it_is(files: dict[str, bytes]) -> None:
    pdf = files["bars.pdf"]
    information = objects_of(pdf)[1]
    assert b"/Title (bars)" in information and b"/Subject (Drawing of bars)" in information
    assert f"inputs sha256:{hashlib.sha256(b'bars').hexdigest()}".encode() in information
    assert b"DejaVuSans" in pdf, "fonts are embedded"


@pytest.mark.browser
def test_no_date_and_no_browser_in_the_files(files: dict[str, bytes]) -> None:
    for name, content in files.items():
        assert not re.search(rb"D:20\d\d|Chrom(e|ium)/|Skia|\bm1\d\d\b|CreationDate|ModDate|tIME", content), name


@pytest.mark.browser
def test_png_has_twice_the_pixels(files: dict[str, bytes]) -> None:
    width, height = (int.from_bytes(files["bars.png"][at : at + 4], "big") for at in (16, 20))
    assert (width, height) == (1280, 800)


@pytest.mark.browser
def test_browser_and_fonts_are_named(exporter: Exporter) -> None:
    said = subprocess.run([find_browser(), "--version"], capture_output=True, text=True, check=True).stdout
    browser = exporter.browser
    assert f" {browser['major']}." in said
    assert [(font["asked"], font["weight"]) for font in browser["fonts"]] == [
        (family, weight) for family in ("DejaVu Sans", "DejaVu Sans Mono") for weight in (400, 700)
    ]
    assert all(font["used"] for font in browser["fonts"])
    widths = [font["widths"] for font in browser["fonts"]]
    faces = [tuple(font["used"]) for font in browser["fonts"]]
    assert len(set(widths)) == len(set(faces)), "another face has other widths"


@pytest.mark.browser
def test_what_cannot_be_drawn_is_refused_and_the_browser_goes_on(exporter: Exporter) -> None:
    with pytest.raises(WorkbenchError, match="did not draw the figure as svg"):
        exporter.render({"data": "not a list"}, "svg", 300, 200)
    assert exporter.render(sample("bars"), "png", 300, 200).startswith(b"\x89PNG")


@pytest.mark.browser
def test_static_image_of_a_notebook_figure(exporter: Exporter) -> None:
    svg, caption, alt = exporter.static_image(json.loads(sample("bars").to_json()))
    assert caption == "Caption of bars." and alt == "Alt text of bars & more."
    root = ET.fromstring(svg)
    assert root.find(f"{SVG}title").text == "Sample bars"
    assert root.find(f"{SVG}desc").text == alt


@pytest.mark.browser
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user; otherwise every test runs as one")
def test_works_for_a_user_without_a_home(files: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory(prefix="workbench-test-") as name:
        folder = Path(name)
        folder.chmod(0o777)
        environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "TMPDIR": name}
        command = [sys.executable, FIXTURES, "samples", name, "bars"]
        as_nobody = {"user": "nobody", "group": "nogroup", "extra_groups": [], "env": environment}
        try:
            subprocess.run([sys.executable, "-c", "import workbench.view.export"], check=True, cwd="/", **as_nobody)
        except (PermissionError, subprocess.CalledProcessError):
            pytest.skip("this Python or this checkout lies where another user may not read")
        done = subprocess.run(command, capture_output=True, text=True, cwd="/", **as_nobody)
        assert done.returncode == 0, done.stderr
        assert (folder / "bars.pdf").read_bytes() == files["bars.pdf"]


def test_no_browser_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("BROWSER_PATH", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(Chromium, "find_browser", lambda **_: None)
    with pytest.raises(WorkbenchError, match=r"apt-get install -y chromium fonts-dejavu-core"):
        find_browser()


def test_browser_is_found_by_name_and_by_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("google-chrome", "chromium", "mine"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("BROWSER_PATH", raising=False)
    assert find_browser() == tmp_path / "chromium"
    (tmp_path / "chromium").unlink()
    assert find_browser() == tmp_path / "google-chrome"
    monkeypatch.setenv("BROWSER_PATH", str(tmp_path / "mine"))
    assert find_browser() == tmp_path / "mine"
    monkeypatch.setenv("BROWSER_PATH", str(tmp_path / "absent"))
    with pytest.raises(WorkbenchError, match="BROWSER_PATH=.*absent is no program"):
        find_browser()


def test_a_browser_that_does_not_start_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "chromium"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(export, "START_S", 20)
    with pytest.raises(WorkbenchError, match=f"browser {broken} did not start"), Exporter(broken):
        pass


def test_description_travels_with_the_figure() -> None:
    fig = describe(go.Figure(layout_meta={"kept": 1}), caption="C", alt="A")
    assert description(fig) == description(fig.to_dict()) == ("C", "A")
    assert fig.layout.meta["kept"] == 1
    for texts in ({"caption": " ", "alt": "A"}, {"caption": "C", "alt": ""}):
        with pytest.raises(WorkbenchError, match="is empty"):
            describe(go.Figure(), **texts)
    with pytest.raises(WorkbenchError, match="'Costs' has no caption or alt text"):
        description(go.Figure(layout_title_text="Costs"))


def test_figure_json_ignores_order_and_uids() -> None:
    one = go.Figure(go.Bar(y=[1], uid="a"), layout={"width": 100, "height": 200})
    other = go.Figure(go.Bar(y=[1], uid="b"), layout={"height": 200, "width": 100})
    assert figure_json(one) == figure_json(other) != figure_json(go.Figure(go.Bar(y=[2])))


def test_stamps_refuse_other_forms() -> None:
    with pytest.raises(WorkbenchError, match="no SVG of plotly's form"):
        stamp_svg(b"<html></html>", "t", "d", "0" * 64)
    with pytest.raises(WorkbenchError, match="PDF of a form that is not known"):
        stamp_pdf(b"%PDF-1.7\n", "t", "d", "0" * 64)


@pytest.mark.parametrize("title", ["a (b) \\ c", "×" * 300, ""])
def test_pdf_stamp_moves_what_follows(title: str) -> None:
    # 1 information   2 a page object   the table   all offsets move by the same amount
    first = b"1 0 obj\n<</Title (x)\n/CreationDate (D:20260101000000)>>\nendobj\n"
    second = b"2 0 obj\n<</Type /Catalog>>\nendobj\n"
    head = b"%PDF-1.4\n"
    table = b"xref\n0 3\n0000000000 65535 f \n%010d 00000 n \n%010d 00000 n \n" % (len(head), len(head + first))
    pdf = head + first + second + table + b"trailer\n<</Size 3\n/Root 2 0 R\n/Info 1 0 R>>\nstartxref\n"
    pdf += b"%d\n%%%%EOF\n" % len(head + first + second)
    stamped = stamp_pdf(pdf, title, "d", "0" * 64)
    objects = objects_of(stamped)
    assert objects[2] == second
    assert b"CreationDate" not in stamped
    expected = title if title.isascii() else title.encode("utf-16-be").hex().upper()
    assert expected.replace("\\", "\\\\").replace("(", r"\(").replace(")", r"\)").encode() in objects[1]


def objects_of(pdf: bytes) -> dict[int, bytes]:
    """Read a PDF as a viewer does: from the end, through the table, to every object."""
    start = int(re.search(rb"startxref\n(\d+)\n%%EOF\s*$", pdf)[1])
    lines = pdf[start:].split(b"\n")
    assert lines[0] == b"xref"
    count = int(lines[1].split()[1])
    objects = {}
    for number, row in enumerate(lines[2 : 2 + count]):
        offset, _, kind = row.split()
        if kind == b"n":
            at = int(offset)
            assert pdf[at:].startswith(b"%d 0 obj" % number), f"object {number} is not at {at}"
            objects[number] = pdf[at : pdf.index(b"endobj\n", at) + 7]
    return objects
