# SPDX-License-Identifier: GPL-2.0-only
"""Recorded runs of real kernels, replayed on the engine and compared byte for byte.

``reading`` takes a run from disk and refuses what is malformed; ``kernels`` finds the layout and tree
of the kernel that ran; ``replay`` does the recorded actions; ``compare`` holds the page array against
the recorded struct pages; ``verify`` does it all and reports.
"""

from workbench.lab.captures.reading import Capture, find, read
from workbench.lab.captures.report import NOT_COMPARED, as_json, as_text, summary
from workbench.lab.captures.verify import CaptureReport, verify

__all__ = ["NOT_COMPARED", "Capture", "CaptureReport", "as_json", "as_text", "find", "read", "summary", "verify"]
