# SPDX-License-Identifier: GPL-2.0-only
"""The one exception type of the workbench."""

from __future__ import annotations

import errno as _errno


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
        return None if self.errno is None else _errno.errorcode[self.errno]
