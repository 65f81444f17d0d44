"""Likelihood of given texts after a prompt, which is encoded once for all texts."""

import copy
from collections.abc import Sequence

import numpy as np
import torch
from peft import PeftModel
from torch.nn import functional as F

from recbole_recfound.adapter import TASKS_ARGUMENT
from recbole_recfound.data.padding import pad_tokens


@torch.no_grad()
def log_likelihoods(
    adapted: PeftModel,
    prompt: np.ndarray,
    texts: Sequence[np.ndarray],
    task: str,
    end: int,
    device: torch.device,
    rows: int = 64,
) -> torch.Tensor:
    """Return the log-probability of each text, its end token included.

    Args:
        adapted: backbone with adapter, in `eval()`.
        prompt: token ids.
        texts: token ids of each text, without the end token.
        task: task whose route is used.
        end: the end token.
        device: where the model is.
        rows: texts scored at once.

    Returns:
        [texts] float32 on `device`.
    """
    read = adapted(
        input_ids=torch.from_numpy(prompt).to(device).unsqueeze(0),
        use_cache=True,
        logits_to_keep=1,
        **{TASKS_ARGUMENT: [task]},
    )
    first = read.logits[:, -1].float().log_softmax(-1)
    found = torch.zeros(len(texts), device=device)
    # Similar lengths share a batch, to save padding.
    order = sorted(range(len(texts)), key=lambda index: -len(texts[index]))
    for start in range(0, len(order), rows):
        chosen = order[start : start + rows]
        ids, mask = (
            torch.from_numpy(part).to(device) for part in pad_tokens([texts[index] for index in chosen], fill=end)
        )
        cache = copy.deepcopy(read.past_key_values)
        cache.batch_repeat_interleave(len(chosen))
        seen = torch.ones(len(chosen), len(prompt), dtype=mask.dtype, device=device)
        logits = adapted(
            input_ids=ids,
            attention_mask=torch.cat([seen, mask], dim=1),
            past_key_values=cache,
            use_cache=True,
            **{TASKS_ARGUMENT: [task] * len(chosen)},
        ).logits.float()
        # Each token is predicted from the one before it; the end token follows the last one.
        wanted = F.pad(ids[:, 1:], (0, 1), value=end).masked_fill(mask.cumsum(1) == mask.sum(1, keepdim=True), end)
        later = logits.log_softmax(-1).gather(2, wanted.unsqueeze(2)).squeeze(2) * mask
        found[chosen] = first[0, ids[:, 0]] + later.sum(1)
    return found
