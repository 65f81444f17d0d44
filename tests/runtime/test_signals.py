"""Signals: at once, or at the end of a step; handlers are restored; other threads are left alone."""

import signal
import threading

import pytest

from recbole_recfound.runtime.signals import Interrupted, finishing_steps, interruptible, received


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_at_once_outside_of_steps(number, code):
    before = signal.getsignal(number)
    with pytest.raises(Interrupted) as caught, interruptible():
        signal.raise_signal(number)
    assert caught.value.exit_code == code and signal.getsignal(number) is before


def test_the_first_waits_for_the_step_and_the_second_does_not(capsys):
    with pytest.raises(Interrupted), interruptible(), finishing_steps():
        signal.raise_signal(signal.SIGTERM)
        assert received() == signal.SIGTERM
        signal.raise_signal(signal.SIGTERM)
        raise AssertionError("not reached")
    assert received() is None
    assert capsys.readouterr().out.count("saving at the end of this step") == 1


def test_a_signal_of_the_last_step_is_not_lost():
    with pytest.raises(Interrupted), interruptible(), finishing_steps():
        signal.raise_signal(signal.SIGINT)


def test_an_error_of_the_step_wins():
    with pytest.raises(ValueError), interruptible(), finishing_steps():
        signal.raise_signal(signal.SIGINT)
        raise ValueError


def test_other_threads_leave_signals_alone():
    seen = []

    def work():
        with interruptible():
            seen.append(signal.getsignal(signal.SIGTERM))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


def test_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with interruptible():
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
