# SPDX-License-Identifier: GPL-2.0-only
"""``workbench dax``: daxctl's verbs on a simulated machine, and ``workbench import-daxctl``.

The machine is kept between commands in a state file, the list of what was done to it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.errors import KernelCrash, WorkbenchError

if TYPE_CHECKING:
    from workbench.dax.region import DevDax
    from workbench.lab.daxctl_session import Session

dax_app = typer.Typer(
    help="daxctl's verbs on a simulated machine, which is kept between commands.", no_args_is_help=True
)

State = Annotated[Path | None, typer.Option("--state", help="The machine's file; default in your folder for state.")]
Region = Annotated[int | None, typer.Option("--region", "-r", help="Only this region.")]
Human = Annotated[bool, typer.Option("--human", "-u", help="Sizes in units, addresses in hex.")]
Size = Annotated[str | None, typer.Option("--size", "-s", help="Bytes, or 1G, 512M, ...")]
Align = Annotated[str | None, typer.Option("--align", "-a", help="4K, 2M or 1G.")]
Force = Annotated[bool, typer.Option("--force", "-f", help="First disable it, or take its memory offline.")]
DeviceWord = Annotated[str, typer.Argument(metavar="DEVICE", help="daxN.M, or all.")]
KernelName = Annotated[str, typer.Option(help="5.10, 5.15, 5.16+4, 5.17, 6.1, 6.1-nodedup, 6.12, ...")]


def register(app: typer.Typer) -> None:
    """Hang the commands into the command line."""
    app.add_typer(dax_app, name="dax")
    app.command("import-daxctl")(import_daxctl)


@dax_app.command()
def boot(
    kernel: KernelName = "6.1",
    patches: Annotated[str | None, typer.Option(help="Exactly these patches of the series on 5.16: 2,3,4.")] = None,
    ram: Annotated[list[str] | None, typer.Option(help="Ordinary memory, nn@ss; may be repeated.")] = None,
    soft_reserved: Annotated[
        list[str] | None, typer.Option(help="Memory marked EFI_MEMORY_SP, nn@ss; may be repeated.")
    ] = None,
    pmem: Annotated[list[str] | None, typer.Option(help="Persistent memory, nn@ss; may be repeated.")] = None,
    namespace: Annotated[
        list[str] | None, typer.Option(help="A devdax namespace: SIZE, SIZE,ALIGN or SIZE,ALIGN,MAP; may be repeated.")
    ] = None,
    cmdline: Annotated[str, typer.Option(help="efi_fake_mem=, memmap=, efi=nosoftreserve.")] = "",
    auto_online: Annotated[bool, typer.Option(help="Memory in system-ram mode goes online by itself.")] = False,
    early_reserve_memory_first: Annotated[
        bool, typer.Option(help="Commit 8aa83e6395ce, which broke efi_fake_mem=.")
    ] = False,
    state: State = None,
) -> None:
    """Boot a machine, in place of the one there was.

    Without memory or command line: 8 GiB of soft reserved memory at 4 GiB.
    """
    from workbench.lab.daxctl_session import Session

    if patches is not None:
        kernel = f"5.16+={patches}"
    action: dict[str, Any] = {"op": "boot", "kernel": kernel}
    if not (ram or soft_reserved or pmem or cmdline):
        soft_reserved = ["8G@4G"]
    for key, spans in (("ram", ram), ("soft_reserved", soft_reserved), ("persistent_memory", pmem)):
        if spans:
            action[key] = [_span(each) for each in spans]
    flags = {
        "cmdline": cmdline,
        "auto_online": auto_online,
        "early_reserve_memory_first": early_reserve_memory_first,
    }
    action |= {key: value for key, value in flags.items() if value}
    session = Session.boot(action)
    if namespace:
        session.do({"op": "init_labels"})
    for each in namespace or ():
        result = session.do(_namespace(each))
        if "errno" in result:
            raise WorkbenchError(f"--namespace {each}: {result['message']}")
    _keep(session, state)
    for line in session.machine.log:
        typer.echo(line, err=True)
    _list(session, regions=True, devices=True, mappings=True)


@dax_app.command("list")
def list_(
    region: Region = None,
    dev: Annotated[str | None, typer.Option("--dev", "-d", help="Only this device.")] = None,
    devices: Annotated[bool, typer.Option("--devices", "-D", help="Include devices.")] = False,
    regions: Annotated[bool, typer.Option("--regions", "-R", help="Include regions.")] = False,
    mappings: Annotated[bool, typer.Option("--mappings", "-M", help="Include the ranges of devices.")] = False,
    idle: Annotated[bool, typer.Option("--idle", "-i", help="Include empty devices.")] = False,
    human: Human = False,
    state: State = None,
) -> None:
    """List regions and devices as JSON."""
    session = _load(state)
    _list(session, regions=regions, devices=devices, mappings=mappings, idle=idle, human=human, region=region, dev=dev)


@dax_app.command()
def iomem(state: State = None) -> None:
    """Print /proc/iomem of the machine."""
    typer.echo(_load(state).machine.iomem.text())


@dax_app.command("create-device")
def create_device(
    region: Region = None,
    size: Size = None,
    align: Align = None,
    input: Annotated[
        Path | None, typer.Option(help="Take the ranges of a device that list -d DEVICE -M printed.")
    ] = None,
    human: Human = False,
    state: State = None,
) -> None:
    """Make a device in each region, or in one: all that is free unless told."""
    from workbench.lab.daxctl_list import device_json
    from workbench.lab.difference import read_json

    session = _load(state)
    with _answering(session, state, "creating devices") as rows:
        if input is not None:
            made = session.create_from_mappings(read_json(input), region)
        else:
            made = session.create_device(region, _bytes(size), _bytes(align))
        rows += [device_json(session.machine.bus, each, human=human) for each in made]
    _summary("created", len(rows), bool(rows))


@dax_app.command("destroy-device")
def destroy_device(device: DeviceWord, region: Region = None, force: Force = False, state: State = None) -> None:
    """Empty a device and take it away."""
    _each(state, device, region, "destroy", lambda session: lambda dev: session.destroy_device(dev, force))


@dax_app.command("reconfigure-device")
def reconfigure_device(
    device: DeviceWord,
    region: Region = None,
    mode: Annotated[str | None, typer.Option("--mode", "-m", help="devdax or system-ram.")] = None,
    size: Size = None,
    align: Align = None,
    no_online: Annotated[bool, typer.Option("--no-online", "-N", help="Leave its memory offline.")] = False,
    force: Force = False,
    human: Human = False,
    state: State = None,
) -> None:
    """Give a device another align, size or mode."""
    wanted = {"mode": mode, "size": _bytes(size), "align": _bytes(align), "no_online": no_online, "force": force}
    _each(
        state,
        device,
        region,
        "reconfigure",
        lambda session: lambda dev: session.reconfigure_device(dev, **wanted),  # type: ignore[arg-type]
        show=True,
        human=human,
    )


@dax_app.command("enable-device")
def enable_device(device: DeviceWord, region: Region = None, state: State = None) -> None:
    """Bind a device to device_dax."""
    _each(state, device, region, "enable", lambda session: session.enable_device)


@dax_app.command("disable-device")
def disable_device(device: DeviceWord, region: Region = None, state: State = None) -> None:
    """Unbind a device."""
    _each(state, device, region, "disable", lambda session: session.disable_device)


@dax_app.command("online-memory")
def online_memory(device: DeviceWord, region: Region = None, state: State = None) -> None:
    """Put the memory of a device in system-ram mode to use."""
    _each(state, device, region, "online", lambda session: session.online_memory)


@dax_app.command("offline-memory")
def offline_memory(device: DeviceWord, region: Region = None, state: State = None) -> None:
    """Take the memory of a device in system-ram mode out of use."""
    _each(state, device, region, "offline", lambda session: lambda dev: session.online_memory(dev, online=False))


def import_daxctl(
    file: Annotated[Path, typer.Argument(help="What daxctl list -DRM, or ndctl list -RN, printed.")],
    map: Annotated[str | None, typer.Option(help="mem or dev, of namespaces whose map the file does not tell.")] = None,
    kernel: KernelName = "6.1",
    state: State = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Say what the series saves on a real machine's devices.

    With --state a machine with these devices is booted and kept there for workbench dax.
    """
    from workbench.lab import daxctl
    from workbench.lab.daxctl_session import Session

    listing = daxctl.read(file)
    if state is not None:
        first, *rest = daxctl.actions(listing, map)
        session = Session.replay([{**first, "kernel": kernel}, *rest])
        # Where no driver takes the region's first device at boot there is nothing to unbind.
        failed = [a for a in session.actions if a["op"] != "unbind" and "errno" in a.get("result", {})]
        if failed:
            raise WorkbenchError(f"{file}: {failed[0]['op']} is refused: {failed[0]['result']['message']}")
        _keep(session, state)
    if as_json:
        typer.echo(json.dumps(daxctl.report_json(listing, map), indent=1))
    else:
        for line in daxctl.report_lines(listing, map):
            typer.echo(line)


_FORMS = {
    "destroy": ("destroying", "destroyed"),
    "reconfigure": ("reconfiguring", "reconfigured"),
    "enable": ("enabling", "enabled"),
    "disable": ("disabling", "disabled"),
    "online": ("onlining memory of", "onlined memory for"),
    "offline": ("offlining memory of", "offlined memory for"),
}


def _load(state: Path | None) -> Session:
    from workbench.lab.daxctl_session import Session, default_state

    return Session.load(state or default_state())


def _keep(session: Session, state: Path | None) -> None:
    from workbench.lab.daxctl_session import default_state

    session.save(state or default_state())


def _list(session: Session, **options: Any) -> None:
    from workbench.lab.daxctl_list import list_json

    rows = list_json(session.machine.bus, **options)
    human_single = options.get("human") and len(rows) == 1
    typer.echo(json.dumps(rows[0] if human_single else rows, indent=1))


def _bytes(size: str | None) -> int | None:
    from workbench.text import parse_size

    return None if size is None else parse_size(size)


def _span(text: str) -> dict[str, str]:
    """``nn@ss`` as a range."""
    from workbench.text import parse_size

    size, at, start = text.partition("@")
    if not at:
        raise WorkbenchError(f"a range is SIZE@START, such as 8G@4G; got {text!r}.")
    first = parse_size(start)
    return {"start": hex(first), "end": hex(first + parse_size(size))}


def _namespace(text: str) -> dict[str, Any]:
    """``SIZE``, ``SIZE,ALIGN`` or ``SIZE,ALIGN,MAP`` as an action."""
    words = text.split(",")
    size, align, map = words + ["", "2M", "mem"][len(words) :]
    return {"op": "create_namespace", "size": _bytes(size), "align": _bytes(align), "map": map}


@contextmanager
def _answering(session: Session, state: Path | None, doing: str) -> Iterator[list[dict[str, Any]]]:
    """Print the rows the block made, or the refusal it met; keep what the kernel left in either case."""
    from workbench.lab.daxctl_session import Refused

    rows: list[dict[str, Any]] = []
    seen = len(session.machine.hazards())
    try:
        yield rows
    except Refused as refused:
        _say(doing, refused)
    except KernelCrash as crash:
        raise WorkbenchError(f"{crash} The kernel died; the machine is kept as it was before.") from crash
    _keep(session, state)
    for hazard in session.machine.hazards()[seen:]:
        typer.echo(f"hazard: {hazard}", err=True)
    if rows:
        typer.echo(json.dumps(rows, indent=1))


def _say(doing: str, refused: WorkbenchError) -> None:
    import os

    known = f"{os.strerror(refused.errno)} ({refused.errno_name}): " if refused.errno else ""
    typer.echo(f"error {doing}: {known}{refused}", err=True)
    for change in refused.changed:
        typer.echo(f"  changed: {change}", err=True)


def _summary(done: str, count: int, succeeded: bool) -> None:
    typer.echo(f"{done} {count} device{'' if count == 1 else 's'}", err=True)
    raise typer.Exit(0 if succeeded else 1)


def _each(
    state: Path | None,
    words: str,
    region: int | None,
    verb: str,
    method: Callable[[Session], Callable[[DevDax], None]],
    show: bool = False,
    human: bool = False,
) -> None:
    """A verb on a device or on all of them."""
    from workbench.lab.daxctl_session import for_each

    session = _load(state)
    present, past = _FORMS[verb]
    doing = f"{present} devices"
    with _answering(session, state, doing) as rows:
        done = for_each(session, words, region, method(session), human)
        for refused in done.refusals:
            _say(doing, refused)
        rows += done.rows if show else []
    _summary(past, done.count, not done.refusals)
