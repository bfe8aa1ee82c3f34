# SPDX-License-Identifier: GPL-2.0-only
"""Hypothesis profiles: ``ci`` draws the same examples every time, ``dev`` draws new and more ones.

``make test`` uses ``ci``; look for new failures with ``HYPOTHESIS_PROFILE=dev pytest ...``.  ``again``
draws few: for a second pass over the same tests in another mode.  ``first`` stops at the first
failure it finds, without looking for a smaller one: for ``scripts/mutate``.
"""

import os
import signal

from hypothesis import HealthCheck, Phase, settings

# The first example of a test compiles kernels, so no example has a deadline.
_SLOW_IS_FINE = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large]}

settings.register_profile("ci", derandomize=True, database=None, max_examples=25, **_SLOW_IS_FINE)
settings.register_profile("dev", max_examples=200, print_blob=True, **_SLOW_IS_FINE)
settings.register_profile("again", settings.get_profile("ci"), max_examples=9)
settings.register_profile("first", settings.get_profile("ci"), phases=[Phase.explicit, Phase.generate])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

# A shell that starts tests in the background has them ignore Ctrl-C, and every process they start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
