# SPDX-License-Identifier: GPL-2.0-only
"""An event loop in a thread of its own, for libraries that only speak asyncio.

The main thread waits for results and is the one that Ctrl-C reaches, whether or not a loop already
runs in it (Jupyter).  What was under way is cancelled and cleaned up before ``with`` ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from threading import Thread
from typing import Any, Self, TypeVar

T = TypeVar("T")


class LoopThread:
    """A running event loop, ``with LoopThread() as loop: loop.run(coroutine)``."""

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="workbench-loop", daemon=True)
        self._thread.start()
        return self

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """What ``coroutine`` returns or raises; an interrupt cancels it.

        Parameters
        ----------
        coroutine : coroutine
            Runs in the loop's thread.
        """
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        finally:
            future.cancel()

    def __exit__(self, *_: object) -> None:
        async def drain() -> None:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            await self._loop.shutdown_asyncgens()

        try:
            asyncio.run_coroutine_threadsafe(drain(), self._loop).result()
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
