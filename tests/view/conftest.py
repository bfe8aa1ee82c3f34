# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import pytest

from workbench.errors import WorkbenchError
from workbench.view.export import find_browser


@pytest.fixture(autouse=True)
def _browser_or_skip(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("browser"):
        try:
            find_browser()
        except WorkbenchError as error:
            pytest.skip(str(error))
