"""The encoders of an embedding task as an ONNX graph."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from recbole_recfound.backbone import decode, decoder_of, first_layers
from recbole_recfound.data.record_pairs import text_tensors
from recbole_recfound.errors import ConfigError
from recbole_recfound.model.recfound import RecFound
from recbole_recfound.model.saved import SavedModel
from recbole_recfound.runtime.graph_files import check_packages, write_graph
from recbole_recfound.serving.export.exported import Exported
from recbole_recfound.serving.export.index import export_index
from recbole_recfound.serving.export.lora import merged_backbone
from recbole_recfound.serving.export.text_encoder import TextEncoder, encodes_texts


class UserEncoder(nn.Module):
    """Histories of item ids to user vectors and scores of all items.

    Args:
        model: RecFound with soft tokens.
        decoder: the first layers of the backbone, with the adapter in their weights.
    """

    def __init__(self, model: RecFound, decoder: nn.Module) -> None:
        super().__init__()
        self.soft_tokens: torch.Tensor
        self.vectors: torch.Tensor
        soft_tokens, vectors = model.table()
        self.decoder, tower = decoder, model.user_tower
        # The graph is made on the host, wherever the model is served.
        self.norm, self.project = copy.deepcopy(tower.norm).cpu(), copy.deepcopy(tower.project).cpu()
        self.recent = copy.deepcopy(model.recent_items).cpu()
        self.register_buffer("soft_tokens", soft_tokens.detach().float().cpu().clone())
        self.register_buffer("vectors", vectors.detach().float().cpu().clone())

    def forward(self, items: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Encode histories.

        Args:
            items: [B, L] item ids (line number in `items.jsonl`, from 1), padding 0 on the right.
            lengths: [B] items of each history.

        Returns:
            User vectors [B, d] and scores of the items [B, num_items]; column 0 is the padding.
        """
        states = decode(self.decoder, self.soft_tokens[items])  # type: ignore[arg-type]
        last = (lengths - 1).clamp(min=0).view(-1, 1, 1).expand(-1, 1, states.shape[-1])
        state = self.norm(states.gather(1, last).squeeze(1).float())
        users = F.normalize(self.project(state), dim=-1)
        users = self.recent.of_whole(users, self.vectors, items, lengths)
        return users, users @ self.vectors.T


def export_onnx(run: Exported, task: str, folder: Path) -> str:
    """Write a graph that onnxruntime runs without torch.

    Args:
        run: what is exported.
        task: an embedding task.
        folder: to fill.

    Raises:
        ConfigError: a generative task, histories as one text, or a missing package.
    """
    saved, model = run.saved, run.model
    texts = encodes_texts(model, task)
    if not texts and not model.history.soft_tokens:
        raise ConfigError(
            f"task: {task} of histories as text (history: {model.history.name}) has no graph: export the index"
        )
    check_packages("format: onnx")
    merged = merged_backbone(saved, model, task)
    merged.set_attn_implementation("eager")
    return _write_texts(saved, model, merged, folder) if texts else _write_users(run, merged, task, folder)


def _write_texts(saved: SavedModel, model: RecFound, merged: nn.Module, folder: Path) -> str:
    encoder = TextEncoder(merged, model.text_tower.depth, model.text_mean).eval()  # type: ignore[arg-type]
    example = text_tensors([("find", "one text"), ("", "another text")], saved.backbone.tokenizer, 16)
    batch, length = torch.export.Dim("batch", max=4096), torch.export.Dim("length", max=saved.backbone.context)
    names = ("input_ids", "attention_mask", "text_mask")
    shapes = {name: {0: batch, 1: length} for name in names}
    write_graph(encoder, example, folder / "model.onnx", names, ("vectors",), shapes)
    saved.backbone.tokenizer.save_pretrained(folder)
    return """Texts to vectors of length 1, with onnxruntime and tokenizers alone:

```python
import numpy as np
import onnxruntime
from tokenizers import Tokenizer

tokenizer = Tokenizer.from_file("tokenizer.json")
session = onnxruntime.InferenceSession("model.onnx")
ids = np.array([tokenizer.encode("Toy Story (1995)", add_special_tokens=False).ids], dtype=np.int64)
ones = np.ones_like(ids)
vectors = session.run(None, {"input_ids": ids, "attention_mask": ones, "text_mask": ones})[0]
```

`text_mask` is 0 for the tokens of an instruction (the template of the task, before the query).
"""


def _write_users(run: Exported, merged: nn.Module, task: str, folder: Path) -> str:
    saved, model = run.saved, run.model
    decoder = first_layers(decoder_of(merged), model.user_depth)
    encoder = UserEncoder(model, decoder).eval()
    example = torch.tensor([[1, 2, 1], [2, 1, 0]]), torch.tensor([3, 2])
    batch, length = torch.export.Dim("batch", max=4096), torch.export.Dim("length", max=saved.backbone.context)
    shapes = {"items": {0: batch, 1: length}, "lengths": {0: batch}}
    write_graph(encoder, example, folder / "model.onnx", ("items", "lengths"), ("users", "scores"), shapes)
    return f"""Histories to user vectors and scores of all items, with onnxruntime alone:

```python
import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession("model.onnx")
history = np.array([[12, 7, 3]], dtype=np.int64)  # item ids, oldest first: the line of the token in items.jsonl, from 1
users, scores = session.run(None, {{"items": history, "lengths": np.array([3])}})
```

At most the last {saved.collator.max_history} items of a history; column 0 of the scores is the padding.

{export_index(run, task, folder)}"""
