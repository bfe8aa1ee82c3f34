# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import copy
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from workbench.errors import WorkbenchError
from workbench.lab.checkout import Checkout
from workbench.view.provenance import Inputs, Series, file_records, inputs_hash, problems, sidecar

from .fixtures import DERIVED, FakeExporter, paper


@pytest.fixture
def record(tmp_path: Path) -> dict:
    """A complete sidecar."""
    outputs = {f"one-bar.{form}": form.encode() for form in ("svg", "pdf", "png")}
    checkout, browser = Checkout(tmp_path), FakeExporter().browser
    return sidecar(paper(), Inputs([DERIVED], {"n": 1}), [], "f" * 64, checkout, browser, outputs)


def test_complete_sidecar(record: dict) -> None:
    assert problems(record) == []
    assert json.loads(json.dumps(record)) == record
    assert record["outputs"]["one-bar.svg"] == {"sha256": hashlib.sha256(b"svg").hexdigest(), "bytes": 3}
    assert record["versions"]["browser_major"] == 156


def leaves(record: object, path: tuple = ()) -> list[tuple]:
    match record:
        case dict():
            return [leaf for name, value in record.items() for leaf in [(*path, name), *leaves(value, (*path, name))]]
        case list():
            return [leaf for number, value in enumerate(record) for leaf in leaves(value, (*path, number))]
    return []


def test_any_missing_part_is_found(record: dict) -> None:
    free = {("inputs", "parameters", "n")}
    for path in set(leaves(record)) - free:
        broken = copy.deepcopy(record)
        part = broken
        for step in path[:-1]:
            part = part[step]
        del part[path[-1]]
        assert problems(broken), path


def test_date_follows_source_date_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1638403200")
    made = sidecar(paper(), Inputs([DERIVED]), [], "f", Checkout(tmp_path), FakeExporter().browser, {})["made"]
    assert made["date"] == "2021-12-02T00:00:00+00:00"
    assert made["commit"] is None and made["dirty"] is None, "not a git checkout"


def test_inputs_hash_covers_what_is_shown_and_nothing_else(tmp_path: Path) -> None:
    data = tmp_path / "a.nc"
    data.write_bytes(b"1")
    checkout, figure, inputs, drawn = Checkout(tmp_path), paper(), Inputs([DERIVED], {"n": 1}), '{"data": [1]}'

    def digest(figure=figure, drawn=drawn, inputs=inputs) -> str:
        return inputs_hash(figure, drawn, file_records(checkout, [data]), inputs)

    first = digest()
    assert digest() == digest(drawn='{ "data":[1] }') == first, "white space"
    changed = [
        digest(figure=replace(figure, title="T")),
        digest(figure=replace(figure, alt="T")),
        digest(figure=replace(figure, width_px=401)),
        digest(drawn='{"data": [2]}'),
        digest(inputs=Inputs([DERIVED], {"n": 2})),
        digest(inputs=Inputs([Series("pages", "modelled", "a model", "1")], {"n": 1})),
    ]
    data.write_bytes(b"2")
    changed.append(digest())
    assert len({first, *changed}) == 1 + len(changed)


def test_series_need_kind_source_and_unit() -> None:
    for parts in (
        ("a", "guessed", "b", "1"),
        ("a", "derived", " ", "1"),
        ("a", "derived", "b", ""),
        ("", "derived", "b", "1"),
    ):
        with pytest.raises(WorkbenchError):
            Series(*parts)


def test_inputs_outside_the_checkout_are_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out.nc").touch()
    with pytest.raises(WorkbenchError, match="outside the checkout"):
        file_records(Checkout(tmp_path / "in"), [tmp_path / "out.nc"])
