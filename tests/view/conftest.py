# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from workbench.errors import WorkbenchError
from workbench.view.export import find_browser


@pytest.fixture(autouse=True)
def _browser_or_skip(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("browser"):
        try:
            find_browser()
        except WorkbenchError as error:
            pytest.skip(str(error))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser for the tests of one module."""
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=find_browser())
        yield running
        running.close()
