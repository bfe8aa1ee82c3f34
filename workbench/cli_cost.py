# SPDX-License-Identifier: GPL-2.0-only
"""The verbs ``workbench cost`` and ``workbench published``."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


class TableForm(StrEnum):
    """How the cover letter's table is printed."""

    TEXT = "text"
    CSV = "csv"
    LATEX = "latex"


def register(app: typer.Typer) -> None:
    """Give ``app`` the verbs of this module."""
    app.command()(cost)
    app.command()(published)


def cost(
    as_json: Json = False,
    table: Annotated[
        TableForm | None, typer.Option(help="The letter's table: published, modelled and measured.")
    ] = None,
    medium: Annotated[
        str | None, typer.Option(help="What if struct pages lay on dram, pmem, cxl, hbm, slow-pmem or a FILE.json?")
    ] = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Run the letter's sizes on this machine, then print the table with them.")
    ] = False,
    update: Annotated[bool, typer.Option("--update", help="With --measure: replace the committed run.")] = False,
) -> None:
    """The cost model: prices fitted to the cover letter's twelve times, residuals, and what the fit cannot tell.

    --json prints prices and residuals alone.  Times for another medium are extrapolated, and say so.
    --table has the measured times of the committed run; --measure takes new ones, in two minutes and 2.5 GiB of memory.
    """
    from workbench.errors import WorkbenchError
    from workbench.lab import cost as model
    from workbench.lab import media, seed_table

    if sum((as_json, table is not None or measure, medium is not None)) > 1:
        raise WorkbenchError("--json, --table and --medium print three different things; ask for one of them.")
    if update and not measure:
        raise WorkbenchError("--update replaces the committed run by a new one. Say --measure as well.")
    fit = model.seed_fit()
    if as_json:
        lines = [json.dumps(model.as_json(fit), indent=1)]
    elif table is not None or measure:
        lines = _table(table or TableForm.TEXT, measure, update)
    elif medium is not None:
        lines = seed_table.what_if_text(media.medium(medium, fit.media))
    else:
        lines = model.as_text(fit)
    for line in lines:
        typer.echo(line)


def _table(form: TableForm, measure: bool, update: bool) -> list[str]:
    """Lines of the letter's table, with the committed run or with one that is taken now."""
    from workbench.lab import seed_table, seed_timing
    from workbench.lab.checkout import Checkout

    checkout = Checkout.find()
    if measure:
        run = seed_timing.measure(checkout)
        typer.echo(f"written: {checkout.relative(seed_timing.keep(checkout, run, update))}", err=True)
    else:
        run = seed_timing.committed(checkout)
    times, where = seed_table.seed_table(measured=seed_timing.times(run)), seed_timing.where(run)
    if form is TableForm.TEXT:
        return seed_table.as_text(times, where)
    printed = seed_table.as_csv if form is TableForm.CSV else seed_table.as_latex
    return [printed(times, where).rstrip("\n")]


def published(
    id: Annotated[str | None, typer.Argument(help="Only ids that begin so: seed, grab-once, rfc, ...")] = None,
    as_json: Json = False,
) -> None:
    """Every number that the series and its neighbours published, where, and what it is not."""
    from workbench.lab import published as numbers

    data = numbers.published().only(id or "")
    for line in [json.dumps(numbers.as_json(data), indent=1)] if as_json else numbers.as_text(data):
        typer.echo(line)
