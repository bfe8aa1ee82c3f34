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
    table: Annotated[TableForm | None, typer.Option(help="The letter's table, published beside modelled.")] = None,
    medium: Annotated[
        str | None, typer.Option(help="What if struct pages lay on dram, pmem, cxl, hbm, slow-pmem or a FILE.json?")
    ] = None,
) -> None:
    """The cost model: prices fitted to the cover letter's twelve times, residuals, and what the fit cannot tell.

    --json prints prices and residuals alone.  Times for another medium are extrapolated, and say so.
    """
    from workbench.errors import WorkbenchError
    from workbench.lab import cost as model
    from workbench.lab import media, seed_table

    if sum((as_json, table is not None, medium is not None)) > 1:
        raise WorkbenchError("--json, --table and --medium print three different things; ask for one of them.")
    fit = model.seed_fit()
    if as_json:
        lines = [json.dumps(model.as_json(fit), indent=1)]
    elif table is not None:
        times = seed_table.seed_table(fit)
        forms = {TableForm.CSV: seed_table.as_csv, TableForm.LATEX: seed_table.as_latex}
        lines = [forms[table](times).rstrip("\n")] if table in forms else seed_table.as_text(times)
    elif medium is not None:
        lines = seed_table.what_if_text(media.medium(medium, fit.media))
    else:
        lines = model.as_text(fit)
    for line in lines:
        typer.echo(line)


def published(
    id: Annotated[str | None, typer.Argument(help="Only ids that begin so: seed, grab-once, rfc, ...")] = None,
    as_json: Json = False,
) -> None:
    """Every number that the series and its neighbours published, where, and what it is not."""
    from workbench.lab import published as numbers

    data = numbers.published().only(id or "")
    for line in [json.dumps(numbers.as_json(data), indent=1)] if as_json else numbers.as_text(data):
        typer.echo(line)
