"""What a run leaves behind in the process that ran it."""

import gc

from transformers import PreTrainedModel

from recbole_recfound import run_recfound


def backbones() -> set[int]:
    return {id(found) for found in gc.get_objects() if isinstance(found, PreTrainedModel)}


def test_a_finished_run_leaves_no_model_in_memory(small_run):
    """Not even until the next collection: the next run of a study would be loaded beside it."""
    gc.collect()
    before = backbones()
    gc.disable()
    try:
        run_recfound("RecFound", "tiny", config_dict=small_run)
        assert backbones() <= before
    finally:
        gc.enable()
