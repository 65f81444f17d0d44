"""The encoder of an embedding task's texts without adapter and routing, as other libraries can run it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from recbole_recfound.backbone import decode, decoder_of, first_layers
from recbole_recfound.backbone.pooling import mean_pool
from recbole_recfound.data.multi_task import USERS
from recbole_recfound.data.task import EMBEDDING, TASKS
from recbole_recfound.data.text import PromptTemplate
from recbole_recfound.errors import ConfigError
from recbole_recfound.model.recfound import RecFound


@dataclass(frozen=True)
class Instruction:
    """The fixed text before a query.

    Attributes:
        text: as in the template.
        ids: its tokens.
    """

    text: str
    ids: list[int]


class TextEncoder(nn.Module):
    """Texts to centred vectors of length 1.

    Args:
        merged: the backbone with the adapter of a task in its weights.
        depth: layers that the run's texts pass.
        centre: [d] mean of the item texts.
    """

    def __init__(self, merged: PreTrainedModel, depth: int, centre: torch.Tensor) -> None:
        super().__init__()
        self.centre: torch.Tensor
        self.decoder = first_layers(decoder_of(merged), depth)
        self.register_buffer("centre", centre.detach().float().cpu().clone())

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, text_mask: torch.Tensor) -> torch.Tensor:
        """Encode texts.

        Args:
            input_ids: [B, T].
            attention_mask: [B, T], 1 for real tokens.
            text_mask: [B, T], 1 for tokens of the text, 0 for those of an instruction.

        Returns:
            [B, d].
        """
        states = decode(self.decoder, self.decoder.embed_tokens(input_ids), attention_mask, causal=False)
        return F.normalize(mean_pool(states, text_mask) - self.centre, dim=-1)


def encodes_texts(model: RecFound, task: str) -> bool:
    """Return whether both sides of a task are texts: all embedding tasks but U2I of histories as sequences.

    Args:
        model: RecFound.
        task: of the run.

    Raises:
        ConfigError: a generative task.
    """
    if TASKS[task].kind != EMBEDDING:
        raise ConfigError(f"task: {task} generates text and embeds none: export it as peft or merged")
    return task != USERS or not model.history.sequences


def instruction_of(template: PromptTemplate) -> Instruction:
    """Return what stands before a query of a task.

    Args:
        template: compiled prompt of an embedding task.

    Raises:
        ConfigError: the template has text behind the query, which no prefix can give.
    """
    before, _, *after = template.pieces
    if any(after):
        raise ConfigError(f"prompts: text behind the query cannot be exported: {template.text!r}")
    return Instruction(template.text.split("{{")[0], [int(token) for token in before])
