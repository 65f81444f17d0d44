"""What a run finds in the process that has run others."""

import gc
from contextlib import nullcontext

import pytest
from transformers import PreTrainedModel

from recbole_recfound.system.execute import execute
from recbole_recfound.system.request import Request


def backbones() -> set[int]:
    return {id(found) for found in gc.get_objects() if isinstance(found, PreTrainedModel)}


class Pruned(Exception):
    """What a study raises to end a run."""


@pytest.mark.parametrize("fails", [False, True])
def test_no_model_of_an_earlier_run_stays_in_memory(small_run, fails):
    """Not even until Python collects it: a study would load the next run beside it."""
    counts = []

    def run(raises: bool) -> None:
        def watch(step, score):
            counts.append(len(backbones() - before))
            if raises:
                raise Pruned

        execute(Request.of("RecFound", "tiny", None, small_run, baselines=[]), watch=watch)

    gc.collect()
    before = backbones()
    gc.disable()
    try:
        with pytest.raises(Pruned) if fails else nullcontext():
            run(raises=fails)
        assert len(backbones() - before) > 0, "they lie in cycles"
        alone = counts[0]
        counts.clear()
        run(raises=False)
        assert counts[0] == alone
    finally:
        gc.enable()
