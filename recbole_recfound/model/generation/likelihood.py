"""Likelihood of given texts after a prompt, which is encoded once for all texts."""

from collections.abc import Sequence

import numpy as np
import torch
from peft import PeftModel

from recbole_recfound.adapter import TASKS_ARGUMENT
from recbole_recfound.model.generation.token_scores import token_log_likelihoods


def log_likelihoods(
    adapted: PeftModel, prompt: np.ndarray, texts: Sequence[np.ndarray], task: str, end: int
) -> torch.Tensor:
    """Return the log-probability of each text, its end token included.

    Args:
        adapted: backbone with adapter, in `eval()`.
        prompt: token ids.
        texts: token ids of each text, without the end token.
        task: task whose route is used.
        end: the end token.

    Returns:
        [texts] float32 on the device of the model.
    """
    ended = [[*text.tolist(), end] for text in texts]
    tokens = token_log_likelihoods(adapted, prompt.tolist(), ended, **{TASKS_ARGUMENT: [task]})
    return torch.stack([likely.sum() for likely in tokens])
