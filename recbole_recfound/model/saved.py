"""The files of a trained RecFound: what a run writes, and the parts read back without data set and training code."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
import yaml
from peft import PeftModel, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file

from recbole_recfound.backbone import Backbone, load_backbone
from recbole_recfound.data.collate import RECORD, Collator
from recbole_recfound.data.item_ids import ItemIds
from recbole_recfound.data.multi_task import MultiTaskData, make_collator
from recbole_recfound.data.task import Example, GenerativeExample
from recbole_recfound.data.text import Catalogue, ItemTexts, PromptTemplate
from recbole_recfound.data.text.options import ItemOptions
from recbole_recfound.errors import ConfigError, DataError
from recbole_recfound.model.history import HISTORIES, History
from recbole_recfound.model.parts import RecFoundParts, build_adapted
from recbole_recfound.runtime.device import choose_device
from recbole_recfound.runtime.finished import check_run
from recbole_recfound.runtime.run_folder import CONFIG, write_text
from recbole_recfound.runtime.tensor_files import save_tensors

ADAPTER = "adapter"
HEAD, VECTORS, STATISTICS = "head.safetensors", "item_embeddings.safetensors", "statistics.safetensors"
ITEMS, MODEL = "items.jsonl", "model.json"


class WritableModel(Protocol):
    """What writing and restoring need of RecFound.

    Attributes:
        backbone: LLM with its adapter.
        parts: what the model was built from.
        history: its history mode.
    """

    backbone: PeftModel
    parts: RecFoundParts
    history: History

    def named_parameters(self) -> Iterator[tuple[str, torch.nn.Parameter]]:
        """Yield all parameters with their names."""

    def item_statistics(self) -> dict[str, torch.Tensor]:
        """Return what `restore_items` needs beside the item vectors."""

    def item_vectors(self) -> torch.Tensor:
        """Return the item vectors [num_items, d]."""

    def restore_items(self, vectors: torch.Tensor | None, statistics: Mapping[str, torch.Tensor]) -> None:
        """Serve with the item vectors of a finished run.

        Args:
            vectors: [num_items, d] as the run wrote them; None where nothing is ranked.
            statistics: of `item_statistics`.
        """


class RunSettings(dict):
    """Settings of a finished run, as its `config.yaml` has them; a missing key is None, as in RecBole's `Config`."""

    def __missing__(self, key: str) -> None:
        return None


@dataclass(frozen=True)
class SavedItems:
    """Replacement of RecBole's data set in a model that is loaded without one.

    Attributes:
        catalogue: items with tokens and fields.
        item_ids: mapping of the two id spaces.
        item_field: RecBole's name of the item column.
    """

    catalogue: Catalogue
    item_ids: ItemIds
    item_field: str

    def num(self, field: str) -> int:
        """Return the number of ids of a field, padding included; users are not stored."""
        return len(self.item_ids.index_of_id) if field == self.item_field else 1


@dataclass(frozen=True)
class SavedModel:
    """The files of a run folder.

    Attributes:
        folder: the run folder.
        settings: of the run.
        items: catalogue and ids.
        parts: backbone, adapter and token tables.
        collator: makes prompts and batches.
        backbone: with tokenizer.
        choices: allowed answers of closed tasks.
        forms: form of each slot of the generative prompts, by task.
    """

    folder: Path
    settings: RunSettings
    items: SavedItems
    parts: RecFoundParts
    collator: Collator
    backbone: Backbone
    choices: Mapping[str, tuple[str, ...]]
    forms: Mapping[str, Mapping[str, str]]

    @torch.no_grad()
    def restore(self, model: WritableModel) -> None:
        """Give a RecFound that was built from these parts its weights, item vectors and statistics.

        Raises:
            DataError: a file is missing, damaged, or does not fit the settings.
        """
        try:
            set_peft_model_state_dict(model.backbone, load_file(self.folder / ADAPTER / "adapter_model.safetensors"))
            weights = dict(model.named_parameters())
            for name, tensor in load_file(self.folder / HEAD).items():
                weights[name].copy_(tensor)
            statistics = load_file(self.folder / STATISTICS)
            vectors = load_file(self.folder / VECTORS)["item_embeddings"] if self.parts.ranks else None
            model.restore_items(vectors, statistics)
        except (OSError, KeyError, RuntimeError, ValueError, SafetensorError) as error:
            raise DataError(
                f"{self.folder}: a file is missing, damaged, or does not fit the run's settings ({error})"
            ) from None


def write_model(
    folder: Path,
    model: WritableModel,
    data: MultiTaskData,
    trained: Mapping[str, torch.Tensor],
    digest: Mapping[str, str] | None,
) -> None:
    """Write everything that loading needs.

    Args:
        folder: the run folder; it has `config.yaml` already.
        model: WritableModel, in eval, with item texts encoded by its weights.
        data: its catalogue and tasks.
        trained: trained parameters by name.
        digest: of the interactions; None where there are none.
    """
    model.backbone.save_pretrained(str(folder / ADAPTER), save_embedding_layers=False)
    head = {name: weight for name, weight in trained.items() if not name.startswith("backbone.")}
    save_tensors(head, folder / HEAD)
    save_tensors(model.item_statistics(), folder / STATISTICS)
    if data.ranks:
        save_tensors({"item_embeddings": model.item_vectors().float()}, folder / VECTORS)
    write_text(folder / ITEMS, "".join(f"{json.dumps(item, ensure_ascii=False)}\n" for item in _items(data)))
    document = {
        "backbone_fingerprint": model.parts.fingerprint,
        "history": model.history.name,
        "tasks": list(model.parts.tasks),
        "ranks": data.ranks,
        "data": None if digest is None else dict(digest),
        "item_fields": data.catalogue.fields,
        "prompts": {
            name: {"text": prompt.text, "slots": list(prompt.slots), "chat": prompt.chat, "uncut": sorted(prompt.uncut)}
            for name, prompt in data.collator.templates.items()
        },
        "forms": {name: _forms(task.example(0)) for name, task in data.tasks.items()},
        "choices": {name: list(task.choices) for name, task in data.tasks.items() if task.choices},
    }
    write_text(folder / MODEL, json.dumps(document, indent=1, ensure_ascii=False))


def read_model(folder: Path, backbone: str | None = None) -> SavedModel:
    """Read a run folder, without data set, tasks and loaders.

    Args:
        folder: of a finished run of RecFound.
        backbone: name or folder of the backbone; None: the one that the run was trained with.

    Raises:
        BackboneError: the backbone cannot be loaded.
        ConfigError: no finished run, or another backbone.
        DataError: a file is missing or damaged.
    """
    check_run(folder)
    if not (folder / ADAPTER).is_dir():
        raise ConfigError(f"{folder} has no weights (no {ADAPTER}/: it was run with saved=False)")
    settings = read_settings(folder)
    # Where the run was computed says nothing about this machine.
    settings |= {"use_gpu": None, "gpu_id": "0", "gradient_checkpointing": False}
    settings["device"] = device = choose_device(None, "0")
    try:
        document = json.loads((folder / MODEL).read_text(encoding="utf-8"))
        lines = (folder / ITEMS).read_text(encoding="utf-8").split("\n")  # the only line end: titles may hold U+2028
        items = _read_items(
            [json.loads(line) for line in lines if line], document["item_fields"], settings["ITEM_ID_FIELD"]
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder}: a file is missing, damaged, or does not fit the run's settings ({error})") from None
    loaded = load_backbone(backbone or settings["backbone"], device, bits=settings["backbone_bits"])
    if loaded.fingerprint != document["backbone_fingerprint"]:
        raise ConfigError(
            f"backbone: got {loaded.name} (fingerprint {loaded.fingerprint}), expected the backbone that {folder} was "
            f"trained with (fingerprint {document['backbone_fingerprint']})"
        )
    return _put_together(folder, settings, items, document, loaded)


def read_settings(folder: Path) -> RunSettings:
    """Read the settings of a run.

    Raises:
        DataError: they are missing or damaged.
    """
    try:
        return RunSettings(yaml.safe_load((folder / CONFIG).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, yaml.YAMLError) as error:
        raise DataError(f"{folder / CONFIG} cannot be read ({error})") from None


def _put_together(
    folder: Path, settings: RunSettings, items: SavedItems, document: Mapping[str, Any], backbone: Backbone
) -> SavedModel:
    templates = {
        name: PromptTemplate(
            name, prompt["text"], prompt["slots"], backbone.tokenizer, prompt["chat"], uncut=prompt["uncut"]
        )
        for name, prompt in document["prompts"].items()
    }
    collator = make_collator(
        settings,
        backbone.tokenizer,
        backbone.context,
        ItemTexts.of(
            items.catalogue, backbone.tokenizer, ItemOptions.of(settings["item_args"], "item_args").max_tokens
        ),
        templates,
        items.item_ids,
        HISTORIES[document["history"]],
    )
    adapted: PeftModel = build_adapted(settings, backbone, document["tasks"])
    parts = RecFoundParts(
        adapted,
        backbone.fingerprint,
        cast(History, collator.history),
        collator.texts.sentences_by(items.item_ids.index_of_id),
        tuple(document["tasks"]),
        RECORD in templates,
        document["ranks"],
    )
    choices = {name: tuple(answers) for name, answers in document["choices"].items()}
    return SavedModel(folder, settings, items, parts, collator, backbone, choices, document["forms"])


def _forms(example: Example) -> dict[str, str]:
    """Return the form of each slot of a generative example."""
    return {slot: form for slot, (form, _) in example.slots.items()} if isinstance(example, GenerativeExample) else {}


def _items(data: MultiTaskData) -> list[dict[str, Any]]:
    """Return one record per item, in catalogue order; `item_id` is 0 for items that RecBole does not know."""
    catalogue, ids = data.catalogue, data.item_ids.id_of_index.tolist()
    return [
        {
            "token": token,
            "item_id": ids[index],
            "title": catalogue.title_of(index),
            "text": catalogue.sentence_of(index),
            "fields": catalogue.values[index],
        }
        for index, token in enumerate(catalogue.tokens)
    ]


def _read_items(records: list[dict[str, Any]], fields: list[str], item_field: str) -> SavedItems:
    index_of_id = np.full(1 + sum(record["item_id"] > 0 for record in records), -1, dtype=np.int64)
    for index, record in enumerate(records):
        if record["item_id"]:
            index_of_id[record["item_id"]] = index
    values = [record["fields"] for record in records]
    catalogue = Catalogue([record["token"] for record in records], fields, values, len(records))
    return SavedItems(catalogue, ItemIds.from_indices(index_of_id, len(records)), item_field)
