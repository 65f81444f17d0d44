"""Training that is broken off, as with Ctrl-C."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from recbole_recfound.trainer.recfound import RecFoundTrainer


@contextmanager
def interrupted_after(steps: int) -> Iterator[None]:
    """The run in this block is interrupted when it has made so many steps."""
    real = RecFoundTrainer._backward

    def backward(self, batch):
        if self.step == steps:
            raise KeyboardInterrupt
        return real(self, batch)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(RecFoundTrainer, "_backward", backward)
        yield
