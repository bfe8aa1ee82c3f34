# SPDX-License-Identifier: GPL-2.0-only
"""From import to a first result in a fresh process: ``python -m workbench.lab.first_result`` says how long.

The result is a struct page of a device of 128 MiB on kernel 5.17, read by name.  One line of JSON:
``seconds`` from before the first import to the result, ``cpu_seconds`` of the whole process so far.
"""

import json
import sys
from time import perf_counter, process_time

_DEVICE_PFN, _DEVICE_PAGES = 0x140000, 32_768
_PGMAP = 0xFFFF_8881_0000_0000


def main() -> None:
    """Import the engine, initialise a device, read a page; write the time to standard output."""
    start = perf_counter()

    from workbench.mm import InitCall, PageArray
    from workbench.series import kernel

    array = PageArray(kernel("5.17"), _DEVICE_PFN, _DEVICE_PAGES)
    array.add_pages(_DEVICE_PFN, _DEVICE_PAGES)
    array.init(InitCall(_DEVICE_PFN, _DEVICE_PFN + _DEVICE_PAGES, pgmap=_PGMAP, vmemmap_shift=9))
    array.decode(_DEVICE_PFN + 1)
    seconds = perf_counter() - start
    json.dump({"seconds": seconds, "cpu_seconds": process_time()}, sys.stdout)


if __name__ == "__main__":
    main()
