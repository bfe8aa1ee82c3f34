# SPDX-License-Identifier: GPL-2.0-only
"""The command ``workbench``: each verb parses its words and calls the part that does the work."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from workbench import __version__, cli_cost, cli_dax, cli_gup
from workbench.errors import WorkbenchError

app = typer.Typer(
    name="workbench",
    help="Compound pages in devmap: replay real kernels, count metadata, draw figures, measure.",
    no_args_is_help=True,
    add_completion=False,
)
captures_app = typer.Typer(help="Runs recorded from real kernels.", no_args_is_help=True)
app.add_typer(captures_app, name="captures")
cli_dax.register(app)
cli_cost.register(app)
cli_gup.register(app)

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


def main() -> None:
    """Run the command line; a refusal is one message and exit status 2.  Typer itself makes Ctrl-C exit with 130."""
    try:
        app()
    except WorkbenchError as refusal:
        typer.echo(f"workbench: {refusal}", err=True)
        sys.exit(2)


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


@captures_app.command()
def verify(
    paths: Annotated[list[Path], typer.Argument(help="Folders of recorded runs, or folders that hold such.")],
    as_json: Json = False,
) -> None:
    """Replay recorded runs on the engine and compare every struct page byte for byte.

    Exit status 0 only if nothing differs, nothing is out of the engine's reach yet and nothing was
    assumed, what was done after the last state included; 1 otherwise; 2 where a run is refused, which
    leaves the others their reports.
    """
    from tqdm import tqdm

    from workbench.lab import captures

    reports, refusals = [], []
    for folder in tqdm(captures.find(paths), desc="replaying", unit="run", delay=2, leave=False):
        try:
            reports.append(captures.verify(captures.read(folder)))
        except WorkbenchError as refusal:
            refusals.append(f"workbench: {folder}: {refusal}")
    if reports or as_json:
        _print(captures.as_json(reports) if as_json else list(captures.as_text(reports)))
        typer.echo(captures.summary(reports), err=as_json)
        typer.echo(f"Not compared: {'; '.join(captures.NOT_COMPARED)}.", err=as_json)
    for message in refusals:
        typer.echo(message, err=True)
    raise typer.Exit(2 if refusals else 0 if all(report.passed for report in reports) else 1)


@app.command()
def overhead(
    size: Annotated[str, typer.Option(help="Size of the namespace: 16G, 1T, ...")] = "16G",
    align: Annotated[str, typer.Option(help="Align of the device: 4K, 2M or 1G.")] = "2M",
    map: Annotated[str, typer.Option(help="Where struct pages live: mem (DRAM) or dev (the namespace).")] = "mem",
    kernel: Annotated[str, typer.Option(help="Kernel: 5.10, 5.16+11, 5.17, 6.1, ...")] = "6.1",
    start: Annotated[str | None, typer.Option(help="Physical address of the namespace.")] = None,
    check: Annotated[
        Path | None, typer.Option(help="Compare with a recorded overhead.json, a recorded run, or a folder of runs.")
    ] = None,
    as_json: Json = False,
) -> None:
    """What the struct pages of a device cost, before the series, after it and with vmemmap deduplication.

    With --check the exit status is 1 if a recorded cost, backing or sharing differs.
    """
    from workbench.lab import metadata_check
    from workbench.lab import overhead as cost
    from workbench.nvdimm import Namespace
    from workbench.text import parse_size

    at = cost.NAMESPACE_START if start is None else parse_size(start)
    if check is not None:
        checked = metadata_check.check_path(check, at)
        _print(checked.json if as_json else checked.lines)
        raise typer.Exit(1 if checked.differs else 0)
    costs = cost.side_by_side(Namespace(at, parse_size(size), parse_size(align), map), kernel)
    _print(cost.report_json(costs) if as_json else cost.report_lines(costs, kernel))


@app.command()
def figures(
    check: Annotated[bool, typer.Option("--check", help="Compare with the committed figures.")] = False,
    update: Annotated[bool, typer.Option("--update", help="Replace the committed figures.")] = False,
    only: Annotated[list[str] | None, typer.Option(help="Only this figure or notebook; may be repeated.")] = None,
) -> None:
    """Run the notebooks, draw the paper figures, write the pages; what is up to date is left alone.

    With --check: exit status 1 if a figure differs from the committed one, 3 if it could not be compared.
    """
    from workbench.view.build import build_figures

    raise typer.Exit(build_figures(check=check, update=update, only=only or (), echo=typer.echo))


@app.command()
def bench(
    quick: Annotated[bool, typer.Option("--quick", help="End within 45 seconds: 64 GiB of device, no 1 TiB.")] = False,
    update: Annotated[bool, typer.Option("--update", help="Replace data/bench and the tables in docs.")] = False,
    as_json: Json = False,
) -> None:
    """Measure the engine against C twins and the machine's limits, as ratios.

    Exit status 1 if a bar is missed; a bar that the machine does not let judge is told with its reason.
    Every run is kept in out/bench; Ctrl-C keeps what was measured.
    """
    from time import monotonic

    started = monotonic()
    from workbench.lab import bars, bench_results
    from workbench.lab import bench as benchmark
    from workbench.lab.checkout import Checkout

    checkout = Checkout.find()
    run = benchmark.measure(checkout, quick, started=started)
    bench_results.write(checkout.root / bench_results.LAST, run)
    _print(bars.as_json(run) if as_json else bench_results.as_text(run))
    if run.attrs["interrupted"]:
        raise KeyboardInterrupt
    if update:
        for path in bench_results.publish(checkout, run):
            typer.echo(f"written: {path.relative_to(checkout.root)}", err=True)
    raise typer.Exit(1 if any(bar.holds is False for bar in bars.bars(run)) else 0)


def _print(report: object) -> None:
    """JSON of an object, or a list of lines as they are."""
    for line in report if isinstance(report, list) else [json.dumps(report, indent=1)]:
        typer.echo(line)
