# SPDX-License-Identifier: GPL-2.0-only
"""What daxctl's verbs do, on a machine that is kept between commands as the list of actions done to it.

The list is in the form of the captures, ``boot`` first.  Opening a session does them all again: a refused
action is refused again, and leaves again what the kernel leaves.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workbench.dax.region import DevDax
from workbench.errors import KernelCrash, WorkbenchError
from workbench.lab import daxctl_actions
from workbench.lab.daxctl_actions import Action, Result
from workbench.lab.daxctl_list import device_json, select
from workbench.machine import Machine


def default_state() -> Path:
    """Where the state is kept unless told: the user's folder for state (XDG_STATE_HOME)."""
    folder = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(folder) / "devmap-workbench" / "dax.json"


class Refused(WorkbenchError):
    """The kernel, or daxctl before it, refused; the session's state is what it left."""


@dataclass
class Session:
    """A machine and what was done to it.

    Attributes
    ----------
    actions : list of dict
        ``boot`` first.
    machine : Machine
    """

    actions: list[Action]
    machine: Machine = field(repr=False)

    @classmethod
    def boot(cls, action: Action) -> Session:
        """A new machine, see :func:`workbench.lab.daxctl_actions.boot`.

        Raises
        ------
        WorkbenchError
            The kernel is unknown, or the memory cannot be had.
        """
        return cls([action], daxctl_actions.boot(action))

    @classmethod
    def replay(cls, actions: list[Action]) -> Session:
        """A machine to which actions are done; those without a result get one.

        Raises
        ------
        WorkbenchError
            It is no list of actions with ``boot`` first, or one of them now ends otherwise than recorded.
        """
        if not isinstance(actions, list) or not actions or not all(isinstance(each, dict) for each in actions):
            raise WorkbenchError("a state is a list of actions.")
        first, *rest = actions
        if first.get("op") != "boot":
            raise WorkbenchError(f"a state begins with boot; got {first.get('op')!r}.")
        session = cls.boot(first)
        for action in rest:
            recorded = action.get("result", {}).get("errno")
            result = session.do({key: value for key, value in action.items() if key != "result"})
            if "result" in action and result.get("errno") != recorded:
                raise WorkbenchError(
                    f"{action['op']} now ends with {result.get('errno', 'success')}, and ended with "
                    f"{recorded or 'success'} when it was saved."
                )
        return session

    @classmethod
    def load(cls, path: Path) -> Session:
        """The machine of a state file.

        Raises
        ------
        WorkbenchError
            It cannot be read, or see :meth:`replay`.
        """
        try:
            actions = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise WorkbenchError(f"no machine in {path}. Boot one: workbench dax boot.") from error
        except (OSError, UnicodeDecodeError, ValueError, RecursionError) as error:
            raise WorkbenchError(f"{path}: {error}. Boot a machine: workbench dax boot.") from error
        try:
            return cls.replay(actions)
        except WorkbenchError as refusal:
            raise WorkbenchError(f"{path}: {refusal} Boot a machine anew: workbench dax boot.") from refusal

    def save(self, path: Path) -> None:
        """Write the actions, all or nothing.

        Raises
        ------
        WorkbenchError
            The file cannot be written; what it held is there still.
        """
        new = path.with_name(path.name + ".new")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            new.write_text(json.dumps(self.actions, indent=1) + "\n", encoding="utf-8")
            new.replace(path)
        except OSError as error:
            raise WorkbenchError(f"the machine cannot be kept: {error}. Name another file with --state.") from error

    def do(self, action: Action) -> Result:
        """Do an action and keep it with its result.

        Raises
        ------
        WorkbenchError
            The action is unknown; nothing was done.
        KernelCrash
            The kernel died: what the session is then cannot go on.
        """
        result = daxctl_actions.do(self.machine, action)
        self.actions.append({**action, "result": result})
        return result

    # daxctl's verbs

    def create_device(
        self, region: int | None = None, size: int | None = None, align: int | None = None
    ) -> list[DevDax]:
        """``daxctl create-device``: a device in each region, or in one.

        Raises
        ------
        Refused
            ENOSPC: no region, or nothing left; else what the kernel said.
        """
        made = []
        for number in self._regions(region):
            asked = {"size": size, "align": align, "region": number}
            given = {key: value for key, value in asked.items() if value is not None}
            made.append(self._do({"op": "create_device", **given})["device"])
        return [self.machine.bus.device(name) for name in made]

    def create_from_mappings(self, rows: Any, region: int | None = None) -> list[DevDax]:
        """``daxctl create-device --input``: a device with the very ranges of a listed one.

        Raises
        ------
        WorkbenchError
            It lists no device with mappings.
        Refused
            What the kernel said; the empty device, or one with the first ranges, stays.
        """
        row = rows[0] if isinstance(rows, list) and len(rows) == 1 else rows
        try:
            ranges = [(_address(each["start"]), _address(each["end"])) for each in row["mappings"]]
            align = row.get("align")
        except (KeyError, TypeError, ValueError) as error:
            raise WorkbenchError(
                "the input holds no single device with mappings. Use what daxctl list -d DEVICE -M printed."
            ) from error
        number = self._regions(region)[0]
        self._do({"op": "region_create", "region": number})
        name = self.machine.bus.seed(number)
        if isinstance(align, int):
            self._do({"op": "set_align", "device": name, "align": align})
        for start, last in ranges:
            self._do({"op": "add_range", "device": name, "start": hex(start), "last": hex(last)})
        self._do({"op": "bind", "device": name})
        return [self.machine.bus.device(name)]

    def destroy_device(self, device: DevDax, force: bool = False) -> None:
        """``daxctl destroy-device``.

        Raises
        ------
        Refused
            EBUSY: it is active and not forced, or the first of its region; the latter is left empty.
        """
        if device.bound:
            if not force:
                raise Refused(f"{device.name} is active, specify --force for deletion", errno.EBUSY)
            self.disable_device(device)
        self._do({"op": "destroy_device", "device": device.name})

    def enable_device(self, device: DevDax) -> None:
        """``daxctl enable-device``; one that is enabled already counts.

        Raises
        ------
        Refused
            ENXIO: in system-ram mode; else what the kernel said.
        """
        self._devdax_only(device)
        if not device.bound:
            self._do({"op": "bind", "device": device.name})

    def disable_device(self, device: DevDax) -> None:
        """``daxctl disable-device``; one that is disabled already counts.

        Raises
        ------
        Refused
            ENXIO: in system-ram mode.
        """
        self._devdax_only(device)
        if device.bound:
            self._do({"op": "unbind", "device": device.name})

    def reconfigure_device(
        self,
        device: DevDax,
        mode: str | None = None,
        size: int | None = None,
        align: int | None = None,
        *,
        no_online: bool = False,
        force: bool = False,
    ) -> None:
        """``daxctl reconfigure-device``: another align, size or mode.

        Raises
        ------
        WorkbenchError
            Nothing to do, or words that contradict each other.
        Refused
            What the kernel, or daxctl before it, said.
        """
        if mode is None and size is None and align is None:
            raise WorkbenchError("error: a 'mode', 'align' or 'size' option is required")
        if mode not in (None, "devdax", "system-ram"):
            raise WorkbenchError(f"unknown mode requested: {mode!r}. Use devdax or system-ram.")
        if mode is not None and (size is not None or align is not None):
            raise WorkbenchError("--mode changes neither size nor align. Do one after the other.")
        if mode == "devdax" and no_online:
            raise WorkbenchError("--no-online is incompatible with --mode=devdax")
        if align is not None:
            self._do({"op": "set_align", "device": device.name, "align": align})
        if size is not None:
            self._do({"op": "resize_device", "device": device.name, "size": size})
        if mode == "system-ram":
            self._to_system_ram(device, no_online)
        elif mode == "devdax":
            self._to_devdax(device, force)

    def _to_system_ram(self, device: DevDax, no_online: bool) -> None:
        bus = self.machine.bus
        if no_online and bus.auto_online:
            raise Refused(f"{device.name}: error: kernel policy will auto-online memory, aborting", errno.EBUSY)
        if device.driver == "device_dax":
            self._do({"op": "unbind", "device": device.name})
        if device.driver != "kmem":
            self._do({"op": "bind", "device": device.name, "driver": "kmem"})
        if not no_online and not bus.is_online(device.name):
            self._do({"op": "online", "device": device.name})

    def _to_devdax(self, device: DevDax, force: bool) -> None:
        bus = self.machine.bus
        if device.driver == "device_dax":
            return
        if device.driver == "kmem":
            if force and bus.is_online(device.name):
                self._do({"op": "offline", "device": device.name})
            if bus.is_online(device.name):
                raise Refused(f"{device.name}: memory is online: refusing to change modes. Use --force.", errno.EBUSY)
            self._do({"op": "unbind", "device": device.name})
        self._do({"op": "bind", "device": device.name})

    def online_memory(self, device: DevDax, online: bool = True) -> None:
        """``daxctl online-memory`` and ``offline-memory``; memory that is so already counts.

        Raises
        ------
        Refused
            ENXIO: in devdax mode.
        """
        if device.driver != "kmem":
            raise Refused(f"{device.name}: memory operations are not applicable in devdax mode", errno.ENXIO)
        if self.machine.bus.is_online(device.name) != online:
            self._do({"op": "online" if online else "offline", "device": device.name})

    def _devdax_only(self, device: DevDax) -> None:
        if device.driver == "kmem":
            raise Refused(f"{device.name}: status operations are only applicable in devdax mode", errno.ENXIO)

    def _regions(self, region: int | None) -> list[int]:
        found = [number for number in sorted(self.machine.bus.regions) if region in (None, number)]
        if not found:
            raise Refused("there is no such dax region. See workbench dax list -R.", errno.ENXIO)
        return found

    def _do(self, action: Action) -> Result:
        result = self.do(action)
        if result.get("errno"):
            raise Refused(result["message"], getattr(errno, result["errno"]), tuple(result["changed"]))
        return result


def _address(value: int | str) -> int:
    return int(value, 0) if isinstance(value, str) else int(value)


@dataclass
class Done:
    """What a verb did to the devices it was given.

    Attributes
    ----------
    rows : list of dict
        The devices it succeeded on, as ``daxctl list`` shows them.
    count : int
    refusals : list of Refused
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    count: int = 0
    refusals: list[WorkbenchError] = field(default_factory=list)


def for_each(
    session: Session, words: str, region: int | None, verb: Callable[[DevDax], None], human: bool = False
) -> Done:
    """Do a verb to a device, or to all; a refusal ends that device's turn only.

    Raises
    ------
    WorkbenchError
        There is no such device.
    KernelCrash
        The kernel died.
    """
    done = Done()
    for device in select(session.machine.bus, words, region):
        try:
            verb(device)
        except KernelCrash:
            raise
        except Refused as refused:
            done.refusals.append(refused)
            continue
        done.count += 1
        if device.id >= 0:
            done.rows.append(device_json(session.machine.bus, device, human=human))
    return done
