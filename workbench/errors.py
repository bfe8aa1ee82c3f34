# SPDX-License-Identifier: GPL-2.0-only
"""The one exception type of the workbench, and its two special cases: a signal, and a kernel that dies."""

from __future__ import annotations

import errno as _errno
from dataclasses import dataclass

_KERNEL_NAMES = {_errno.EOPNOTSUPP: "EOPNOTSUPP", _errno.EAGAIN: "EAGAIN", _errno.EDEADLK: "EDEADLK"}
"""The kernel's names of numbers that the C library knows by two."""


class WorkbenchError(Exception):
    """A refused request or operation.

    The message says what is wrong, the value with its unit, where (a pfn range in hex, a file),
    and what to do about it.

    Parameters
    ----------
    message : str
        What a person reads.
    errno : int, optional
        The positive errno the kernel would return (``errno.EINVAL``); None where the refusal is the
        workbench's own and no kernel would have been asked.
    changed : tuple of str
        What the operation changed before it was refused, one item a change.  Empty when the
        workbench's own checks refuse: those change nothing.
    """

    def __init__(self, message: str, errno: int | None = None, changed: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.errno = errno
        self.changed = changed

    @property
    def errno_name(self) -> str | None:
        """The errno's symbolic name, ``"EINVAL"``; None when there is no errno."""
        return None if self.errno is None else _KERNEL_NAMES.get(self.errno) or _errno.errorcode[self.errno]


@dataclass(frozen=True)
class Signal:
    """A signal as its handler sees it: siginfo.

    Attributes
    ----------
    name : str
        ``"SIGBUS"``, ``"SIGSEGV"``, ``"SIGKILL"``.
    code : str
        ``"BUS_ADRERR"``, ``"BUS_MCEERR_AR"``, ``"BUS_MCEERR_AO"``, ``"SEGV_MAPERR"``, ``"SEGV_ACCERR"``;
        empty for SIGKILL.
    addr : int
        si_addr, a user virtual address.
    lsb : int
        si_addr_lsb: log2 of the bytes lost; 0 unless memory failed.
    """

    name: str
    code: str
    addr: int
    lsb: int = 0


class Signalled(WorkbenchError):
    """The process got a signal instead of a result.

    Parameters
    ----------
    signal : Signal
    message : str
        Why, and what to do.
    at_index : int
        Which access of several raised it.
    """

    def __init__(self, signal: Signal, message: str, at_index: int = 0) -> None:
        super().__init__(message)
        self.signal = signal
        self.at_index = at_index


class KernelCrash(WorkbenchError):
    """A real kernel dies here, or kills the process that asked: a BUG, or a fault in the kernel's own code.

    ``changed`` lists what it did before.
    """
