"""SIGTERM and Ctrl-C: a run ends at once, or after the step that it is making."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interrupted(KeyboardInterrupt):
    """A run was ended by a signal.

    Args:
        number: of the signal.
        saved: what was saved because of it; empty or False if nothing was.

    Attributes:
        advice: how to continue.
    """

    def __init__(self, number: int, saved: str | bool = "") -> None:
        super().__init__(number, saved)
        self.number, self.saved, self.advice = number, str(saved or ""), ""

    @property
    def exit_code(self) -> int:
        """128 and the number of the signal, as shells count."""
        return 128 + self.number

    def __str__(self) -> str:
        name = "Ctrl-C" if self.number == signal.SIGINT else signal.Signals(self.number).name
        return "; ".join(filter(None, [f"interrupted by {name}", self.saved, self.advice]))


class _State:
    """What the handler knows: whether an interruption waits for the end of a step, and the signal that waits."""

    def __init__(self) -> None:
        self.waits = False
        self.received: int | None = None

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """Raise `Interrupted`, or note the first signal where the loop asks for it.

        Args:
            number: of the signal.
            frame: where it arrived, not used.
        """
        if self.waits and self.received is None:
            self.received = number
            print("interrupted: saving at the end of this step (once more ends at once)", flush=True)
            return
        raise Interrupted(number)


_state = _State()


@contextmanager
def interruptible() -> Iterator[None]:
    """Turn SIGTERM and Ctrl-C into `Interrupted` inside of this block; the handlers before it are restored.

    Only the main thread can set handlers: in another one, signals remain as they are.
    """
    before = {}
    if threading.current_thread() is threading.main_thread():
        # A signal that is ignored (nohup, a shell's background job) stays ignored.
        for number in SIGNALS:
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                before[number] = signal.signal(number, _state.on_signal)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def finishing_steps() -> Iterator[None]:
    """Let a loop finish its step: inside of this block, the first signal waits until `received` asks for it.

    Raises:
        Interrupted: a signal arrived in the last step, after which nobody asked.
    """
    _state.waits, _state.received = True, None
    try:
        yield
        if _state.received is not None:
            raise Interrupted(_state.received)
    finally:
        _state.waits, _state.received = False, None


def received() -> int | None:
    """Return the number of the signal that waits; None: no signal."""
    return _state.received
