"""The texts' side of an embedding task as a folder of sentence-transformers."""

from __future__ import annotations

import copy
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from tokenizers import pre_tokenizers, processors
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from recbole_recfound.backbone import decoder_of
from recbole_recfound.data.text.options import ItemOptions
from recbole_recfound.errors import ConfigError
from recbole_recfound.model.recfound import RecFound
from recbole_recfound.model.saved import SavedModel
from recbole_recfound.serving.export.exported import Exported
from recbole_recfound.serving.export.lora import merged_backbone
from recbole_recfound.serving.export.text_encoder import Instruction, encodes_texts, instruction_of

LARGEST_DIFFERENCE = 1e-3
CHECKED = 16
"""Items on which the written folder is compared with the run."""


def export_sentence_transformer(run: Exported, task: str, folder: Path) -> str:
    """Write a `SentenceTransformer` for items and queries, and compare its vectors with those of the run.

    Args:
        run: what is exported.
        task: an embedding task whose both sides are texts.
        folder: to fill.

    Raises:
        ConfigError: another task, a missing package, or a tokenizer or prompt with which the library gives other
            vectors.
    """
    saved, model = run.saved, run.model
    if not encodes_texts(model, task):
        raise ConfigError(
            f"task: users of {task} are sequences of items in this run (history: {model.history.name}), not texts: "
            "export I2I or Q2I, or the index of U2I"
        )
    if find_spec("sentence_transformers") is None:
        raise ConfigError("format: sentence-transformers needs its package: pip install sentence-transformers")
    instruction = instruction_of(saved.collator.templates[task])
    most = ItemOptions.of(saved.settings["item_args"], "item_args").max_tokens
    _write_decoder(merged_backbone(saved, model, task), model.text_tower.depth, folder)
    tokenizer = _tokenizer(saved.backbone.tokenizer, instruction)
    tokenizer.save_pretrained(folder)
    longest = saved.collator.max_prompt_tokens
    library = _put_together(folder, model, instruction, longest)
    library.save(str(folder), create_model_card=False)
    _compare(folder, saved, model, task, instruction, most)
    query = ', prompt_name="query"' if instruction.text else ""
    return f"""Texts of items, and what is searched with, as vectors of length 1:

```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("PATH OF THIS FOLDER")
items = model.encode(["Toy Story (1995), genre: Animation"])
queries = model.encode(["a film about toys"]{query})
scores = queries @ items.T
```

Texts are cut to {longest} tokens. The run cut the texts of items to {most}: longer ones have other vectors here.
"""


def _write_decoder(merged: PreTrainedModel, depth: int, folder: Path) -> None:
    """Write the layers that texts pass; where the last ones are left out, one more, whose input is read.

    The library's model ends with a norm, and states between layers are read without it.
    """
    decoder = decoder_of(merged)
    kept = copy.copy(decoder)
    kept._modules = dict(decoder._modules)
    kept.config = copy.deepcopy(decoder.config)
    layers = min(depth + 1, len(decoder.layers))
    kept.layers = torch.nn.ModuleList(list(decoder.layers)[:layers])
    kept.config.num_hidden_layers = layers
    if getattr(kept.config, "layer_types", None):
        kept.config.layer_types = kept.config.layer_types[:layers]
    kept.config.is_causal = False
    kept.config.output_hidden_states = True
    kept.config.architectures = [type(decoder).__name__]
    kept.save_pretrained(folder)


def _tokenizer(tokenizer: PreTrainedTokenizerBase, instruction: Instruction) -> PreTrainedTokenizerBase:
    """Return a tokenizer that adds no tokens, reads special ones as text, and splits an instruction from the query.

    Without the chat template, into which the library would put every text.
    """
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.split_special_tokens = True
    tokenizer.init_kwargs["split_special_tokens"] = True
    tokenizer.padding_side = "right"
    tokenizer.chat_template = None
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return tokenizer
    backend.post_processor = processors.TemplateProcessing(single="$A", pair="$A $B:1", special_tokens=[])
    if instruction.text and backend.pre_tokenizer is not None:
        split = pre_tokenizers.Split(instruction.text, behavior="isolated")
        backend.pre_tokenizer = pre_tokenizers.Sequence([split, backend.pre_tokenizer])
    return tokenizer


def _put_together(folder: Path, model: RecFound, instruction: Instruction, longest: int) -> Any:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Dense, Normalize, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling, WeightedLayerPooling

    width, depth = len(model.text_mean), model.text_tower.depth
    reader = Transformer(
        str(folder),
        max_seq_length=longest,
        model_kwargs={"attn_implementation": "eager"},
    )
    modules: list[torch.nn.Module] = [reader]
    if depth < int(model.backbone.config.num_hidden_layers):
        one = torch.nn.Parameter(torch.tensor([1.0, 0.0]))
        modules.append(WeightedLayerPooling(width, num_hidden_layers=depth + 1, layer_start=depth, layer_weights=one))
    modules.append(Pooling(width, "mean", include_prompt=False))
    centre = -model.text_mean.detach().float().cpu()
    modules.append(
        Dense(width, width, activation_function=torch.nn.Identity(), init_weight=torch.eye(width), init_bias=centre)
    )
    modules.append(Normalize())
    prompts = {"query": instruction.text} if instruction.text else {}
    return SentenceTransformer(modules=modules, prompts=prompts, device=str(model.device))


@torch.no_grad()
def _compare(folder: Path, saved: SavedModel, model: RecFound, task: str, instruction: Instruction, most: int) -> None:
    """Load what was written and compare its vectors of some items, as items and as queries, with those of the run.

    Raises:
        ConfigError: they differ.
    """
    from sentence_transformers import SentenceTransformer

    library = SentenceTransformer(str(folder), device=str(model.device))
    catalogue, texts = saved.items.catalogue, saved.collator.texts
    rows = [row for row in range(len(catalogue)) if len(texts.sentences[row]) < most][:CHECKED]
    if not rows:
        raise ConfigError(
            f"format: the run cut the text of every item to {most} tokens (item_args: max_tokens), which a "
            "SentenceTransformer does not: export onnx or merged"
        )
    sentences, titles = ([text_of(row) for row in rows] for text_of in (catalogue.sentence_of, catalogue.title_of))
    expected = model.encode(task, *saved.collator.item_texts(rows)).float().cpu()
    pairs = [(expected, library.encode(sentences, convert_to_tensor=True, show_progress_bar=False))]
    if instruction.text:
        # Histories of one item for U2I, items for I2I, texts for Q2I.
        slot = saved.collator.templates[task].slots[0]
        asked = sentences if slot == "item" else titles
        queries: list[Any] = [(row,) for row in rows] if slot == "history" else rows if slot == "item" else titles
        expected = model.encode(task, *saved.collator.queries([task] * len(rows), queries)).float().cpu()
        found = library.encode(asked, prompt_name="query", convert_to_tensor=True, show_progress_bar=False)
        pairs.append((expected, found))
    worst = max(float((ours - theirs.float().cpu()).abs().max()) for ours, theirs in pairs)
    if worst > LARGEST_DIFFERENCE:
        raise ConfigError(
            f"format: sentence-transformers gives other vectors with this backbone's tokenizer (they differ by "
            f"{worst:.2g}): export it as onnx or merged"
        )
