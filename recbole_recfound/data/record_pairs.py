"""Embedding records to tensors: queries and items are (instruction, text), only the text is pooled."""

from collections.abc import Sequence

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from recbole_recfound.data.batches import PairBatch
from recbole_recfound.data.padding import pad_tokens
from recbole_recfound.data.records.records import Text
from recbole_recfound.data.task import RecordPairExample
from recbole_recfound.data.text import plain_tokens


def record_pairs(
    tasks: list[str], examples: Sequence[RecordPairExample], tokenizer: PreTrainedTokenizerBase, max_tokens: int
) -> PairBatch:
    """Collate records for a contrastive loss; each distinct (task, text) is encoded once.

    Args:
        tasks: task of each example.
        examples: queries with their positives and negatives.
        tokenizer: of the backbone.
        max_tokens: length of a text with its instruction.
    """
    items: dict[tuple[str, Text], int] = {}
    for task, example in zip(tasks, examples, strict=True):
        for text in (example.positive, *example.negatives):
            items.setdefault((task, text), len(items))
    item_tasks = [task for task, _ in items]
    allowed = np.zeros((len(examples), len(items)), dtype=bool)
    for index, (task, example) in enumerate(zip(tasks, examples, strict=True)):
        # Other positives of a query are not its negatives.
        right = {(task, text) for text in example.known} - {(task, example.positive)}
        allowed[index] = [key[0] == task and key not in right for key in items]
    return PairBatch(
        tasks,
        *text_tensors([example.query for example in examples], tokenizer, max_tokens),
        item_tasks,
        *text_tensors([text for _, text in items], tokenizer, max_tokens),
        positive=torch.from_numpy(
            np.array([items[task, example.positive] for task, example in zip(tasks, examples, strict=True)])
        ),
        allowed=torch.from_numpy(allowed),
    )


def text_tensors(
    texts: Sequence[Text], tokenizer: PreTrainedTokenizerBase, max_tokens: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return tokens, mask of real tokens and mask of the text's tokens, [B, T] each.

    The instruction takes at most half of `max_tokens`, the text the rest.

    Args:
        texts: B instructions with their texts.
        tokenizer: of the backbone.
        max_tokens: most tokens of one row.
    """
    instructions = [
        row[: max_tokens // 2] for row in plain_tokens([instruction for instruction, _ in texts], tokenizer)
    ]
    contents = plain_tokens([text for _, text in texts], tokenizer)
    contents = [row[: max_tokens - len(before)] for before, row in zip(instructions, contents, strict=True)]
    ids, mask = pad_tokens(
        [[*before, *row] for before, row in zip(instructions, contents, strict=True)], fill=tokenizer.pad_token_id
    )
    pooled, _ = pad_tokens(
        [[0] * len(before) + [1] * len(row) for before, row in zip(instructions, contents, strict=True)], fill=0
    )
    return torch.from_numpy(ids), torch.from_numpy(mask), torch.from_numpy(pooled)
