"""The vectors of all items with their tokens."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import torch
from safetensors.torch import save_file

from recbole_recfound.data.multi_task import USERS
from recbole_recfound.data.task import EMBEDDING, TASKS
from recbole_recfound.errors import ConfigError
from recbole_recfound.serving.export.exported import Exported
from recbole_recfound.serving.index import ApproximateIndex


@torch.no_grad()
def export_index(run: Exported, task: str, folder: Path) -> str:
    """Write item vectors, tokens and texts, and an index of faiss where it is installed.

    Args:
        run: what is exported.
        task: an embedding task of the run.
        folder: to fill.

    Raises:
        ConfigError: a generative task, or a run without items.
    """
    model = run.model
    if TASKS[task].kind != EMBEDDING or not model.parts.ranks:
        raise ConfigError(f"task: {task} has no item vectors: the index is of an embedding task of a run with items")
    vectors = (model.item_vectors() if task == USERS else model.text_vectors(task))[1:].float().cpu().contiguous()
    save_file({"vectors": vectors}, folder / "vectors.safetensors")
    items = enumerate(zip(run.tokens[1:], run.texts[1:], strict=True))
    lines = [json.dumps({"row": row, "token": token, "text": text}, ensure_ascii=False) for row, (token, text) in items]
    (folder / "items.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    text = (
        f"`vectors.safetensors` holds `vectors`, float32 [{len(vectors)}, {vectors.shape[1]}], of length 1; line *n* of"
        " `items.jsonl` names the item of row *n*. Scores are inner products with a query's vector of the same task.\n"
    )
    if find_spec("faiss") is not None:
        index = ApproximateIndex(vectors, vectors)
        index.write(folder / "items.faiss")
        text += (
            f"\n`items.faiss` (`faiss.read_index`) finds {index.recall:.1%} of the exact ten best items with "
            f"`nprobe = {index.probes}`.\n"
        )
    return text
