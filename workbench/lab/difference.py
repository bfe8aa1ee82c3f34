# SPDX-License-Identifier: GPL-2.0-only
"""A recorded value beside the derived one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from workbench import text
from workbench.errors import WorkbenchError

_JSON_LIMIT = 64 << 20


class Difference(NamedTuple):
    """A recorded value that is not the derived one.

    Attributes
    ----------
    field : str
        Its name in the record, with the place where that says more.
    recorded, derived : object
        None where only the other side has it.
    """

    field: str
    recorded: Any
    derived: Any

    def __str__(self) -> str:
        return f"{self.field}: recorded {self.recorded}, derived {self.derived}"


def differences(recorded: Mapping[str, Any], derived: Mapping[str, Any], prefix: str = "") -> list[Difference]:
    """Compare two flat records, values and their types.

    Parameters
    ----------
    recorded, derived : mapping
        A field that only one of them has differs from None.
    prefix : str
        Put before each field's name.

    Returns
    -------
    list of Difference
        Empty where they are equal.
    """
    return [
        Difference(prefix + field, recorded.get(field), derived.get(field))
        for field in {**recorded, **derived}
        if type(recorded.get(field)) is not type(derived.get(field)) or recorded.get(field) != derived.get(field)
    ]


def read_json(path: Path | str) -> Any:
    """The content of a recorded JSON file.

    Raises
    ------
    WorkbenchError
        The file cannot be read, is larger than 64 MiB or is not JSON.
    """
    try:
        nbytes = Path(path).stat().st_size
        if nbytes > _JSON_LIMIT:
            raise WorkbenchError(
                f"{path} has {text.size(nbytes)}; a recorded file has at most {text.size(_JSON_LIMIT)}. Name another."
            )
        return json.loads(Path(path).read_bytes())
    except OSError as error:
        raise WorkbenchError(f"cannot read {path}: {error.strerror}. Name an existing file.") from error
    except (ValueError, RecursionError) as error:
        raise WorkbenchError(f"{path} is not a JSON file: {error}. Name a recorded one.") from error
