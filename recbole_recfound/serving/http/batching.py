"""Requests from many connections, answered by one model in few passes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from recbole_recfound.serving.recommender import Recommender
from recbole_recfound.serving.request import Recommendation, Request

T = TypeVar("T")


class QueueFull(Exception):
    """As many requests wait as the server lets wait."""


@dataclass
class _Waiting:
    """One request that waits for its answer: a `Request` for a recommender, or a function that is called alone."""

    asked: Request | Callable[[], Any]
    of: Recommender | None
    answer: asyncio.Future = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Batcher:
    """One thread that runs the model; requests for recommendations that wait together are answered in one pass.

    Args:
        largest: most requests of one pass.
        waiting: most requests that may wait.
        seconds: longest time from asking to the answer.
    """

    def __init__(self, largest: int = 64, waiting: int = 256, seconds: float = 30.0) -> None:
        self.largest, self.seconds = largest, seconds
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue(waiting)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._task: asyncio.Task | None = None
        self.passes = 0

    @property
    def waiting(self) -> int:
        """Number of requests that wait."""
        return self._queue.qsize()

    async def start(self) -> None:
        """Begin to answer."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """End after the pass that runs; whoever waits gets no answer."""
        if self._task is not None:
            self._task.cancel()
        self._thread.shutdown(wait=True, cancel_futures=True)

    async def recommend(self, recommender: Recommender, request: Request) -> list[Recommendation]:
        """Answer one request, together with others that wait.

        Args:
            recommender: who is asked.
            request: what is asked.

        Raises:
            ConfigError: the request is wrong.
            QueueFull: too many wait.
            TimeoutError: it took too long.
        """
        return await self._ask(_Waiting(request, recommender))

    async def call(self, function: Callable[[], T]) -> T:
        """Call a function on the model's thread, in its turn; see `recommend` for what it raises.

        Args:
            function: without arguments.
        """
        return await self._ask(_Waiting(function, None))

    async def _ask(self, waiting: _Waiting) -> Any:
        try:
            self._queue.put_nowait(waiting)
        except asyncio.QueueFull:
            raise QueueFull from None
        return await asyncio.wait_for(waiting.answer, self.seconds)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            some = [await self._queue.get()]
            while len(some) < self.largest and not self._queue.empty():
                some.append(self._queue.get_nowait())
            for part in _parts(some):
                part = [one for one in part if not one.answer.done()]  # whoever has given up meanwhile is not answered
                if not part:
                    continue
                answers = await loop.run_in_executor(self._thread, _answers, part)
                self.passes += 1
                for one, answer in zip(part, answers, strict=True):
                    if one.answer.done():
                        continue
                    if isinstance(answer, BaseException):
                        one.answer.set_exception(answer)
                    else:
                        one.answer.set_result(answer)


def _parts(waiting: list[_Waiting]) -> list[list[_Waiting]]:
    """Divide requests into those that one pass can answer, in their order."""
    parts: list[list[_Waiting]] = []
    for one in waiting:
        if parts and one.of is not None and parts[-1][0].of is one.of:
            parts[-1].append(one)
        else:
            parts.append([one])
    return parts


def _answers(part: list[_Waiting]) -> list[Any]:
    """Run the model; where a pass fails, its requests are answered one by one, so that only the wrong one fails."""
    try:
        first = part[0]
        if first.of is None:
            return [first.asked()]  # type: ignore[operator]
        return list(first.of.recommend_each([one.asked for one in part]))  # type: ignore[misc]
    except Exception as error:
        return [error] if len(part) == 1 else [_answers([one])[0] for one in part]
