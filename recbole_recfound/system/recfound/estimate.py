"""`--dry_run`: memory and time of a run, estimated before data or weights are loaded."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from recbole_recfound.atomic.find import NO_DATASET
from recbole_recfound.backbone import Backbone
from recbole_recfound.backbone.load import load_configuration
from recbole_recfound.config.configurator import Config
from recbole_recfound.data.batches import BatchOptions
from recbole_recfound.data.task import GENERATIVE, TASKS
from recbole_recfound.data.text.options import ItemOptions
from recbole_recfound.errors import ConfigError
from recbole_recfound.model.history import HISTORIES, history_of
from recbole_recfound.model.options import TowerOptions
from recbole_recfound.model.parts import RECORDS_MODE, build_adapted
from recbole_recfound.runtime.device import choose_precision, is_gpu
from recbole_recfound.runtime.ranks import main_speaks, world
from recbole_recfound.system.recfound.system import RecFoundSystem
from recbole_recfound.system.request import Request

OF_A_LAYER = 34
"""Bytes that a decoder layer keeps for backward, per token and unit of width, in 16-bit numbers and with a fused
attention (Korthikanti et al. 2022, arXiv 2205.05198, section 4.1)."""
STATES = {"adamw": 2, "adam": 2, "sgd": 0}
"""Numbers that an optimiser keeps for each trained one."""
GIB = 2**30


@dataclass(frozen=True)
class Estimate:
    """Memory of one process in bytes, and work of a step.

    Attributes:
        backbone: parameters of the frozen backbone.
        trained: trained parameters: adapter, projections, item table.
        memory: bytes by what they are for.
        tokens: most tokens of a step, over all processes.
        operations: floating-point operations of such a step.
    """

    backbone: int
    trained: int
    memory: dict[str, float]
    tokens: int
    operations: float


def dry_run(request: Request) -> str:
    """Return a table of the memory and the time that a run would take.

    Raises:
        ConfigError: wrong settings, or a model without a backbone.
        BackboneError: the configuration of the backbone cannot be read.
    """
    if request.model != RecFoundSystem.name:
        raise ConfigError(
            f"dry_run: got {request.model}, expected {RecFoundSystem.name}: there is no estimate of other models"
        )
    with main_speaks():
        config = RecFoundSystem.configure(request)
        RecFoundSystem.check(config)
        return _described(estimate(config), config)


def estimate(config: Config) -> Estimate:
    """Estimate memory and work from the configuration of the backbone and the size of the catalogue.

    Args:
        config: settings of the run.

    Raises:
        BackboneError: the configuration of the backbone cannot be read.
    """
    shape = load_configuration(config["backbone"])
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(shape)
    layers = len(model.base_model.layers)
    frozen = sum(weight.numel() for weight in model.parameters())
    of_layers = sum(weight.numel() for weight in model.base_model.layers.parameters())
    width: int = shape.hidden_size
    tasks = [name for name in config["tasks"] if not config["only_tasks"] or name in config["only_tasks"]]
    with torch.device("meta"):
        adapted = build_adapted(config, Backbone(model, None, config["backbone"], ""), tasks)  # type: ignore[arg-type]
    trained = sum(weight.numel() for weight in adapted.parameters() if weight.requires_grad)
    items, features = _items(config), 0
    towers = TowerOptions.of(config["tower_args"], "tower_args")
    mode = history_of(config) if config["dataset"] != NO_DATASET else HISTORIES[RECORDS_MODE]
    text_depth = mode.text_depth(layers, towers.text_layers, mode.user_depth(layers, towers.user_layers))
    if items:
        # Text features of the item table: the plain backbone's, those of chosen layers, and their change by training.
        features = width * (2 + len(towers.feature_layers))
        if mode.uses_item_table:
            table = ItemOptions.of(config["item_args"], "item_args")
            trained += width * (features + table.factors + width) + items * width * table.use_id
    half = choose_precision(config["precision"], config["device"]) == "bf16"
    batches = BatchOptions.of(config["batch_args"], "batch_args")
    generates = any(TASKS[name].kind == GENERATIVE for name in tasks)
    longest = config["max_prompt_tokens"]
    pair = longest + ItemOptions.of(config["item_args"], "item_args").max_tokens
    together = min(batches.cache_chunk or batches.contrastive, batches.contrastive)
    # Tokens times layers of the largest pass of each kind.
    passes = [max(batches.pass_tokens, longest) * layers * generates, -(-together // world()) * pair * text_depth]
    checkpointing = bool(config["gradient_checkpointing"])
    # With checkpoints a layer keeps its input, and one layer at a time is computed again.
    kept = max(passes) * width * (2 + OF_A_LAYER / layers if checkpointing else OF_A_LAYER)
    memory = {
        f"weights of the backbone ({'bf16' if half else 'float32'})": frozen * (2 if half else 4),
        "trained weights (float32)": 4 * trained,
        "their gradients": 4 * trained,
        f"states of the optimiser ({config['learner']})": 4 * STATES[config["learner"].lower()] * trained,
        f"features of {items:,} items, and their whitening": 8 * items * features + 8 * (features - width) ** 2,
        **({f"states of {items:,} items' texts": (2 if half else 4) * items * width} if mode.segments else {}),
        "activations of the largest pass, at most": kept * (1 if half else 2),
    }
    generated, embedded = batches.generative * longest * generates, batches.embedding * pair
    through = (generated + embedded * text_depth / layers) * batches.accumulation
    # Forward, and the gradients of activations; those of frozen weights are never computed.
    operations = 2.0 * (3 if checkpointing else 2) * of_layers * through
    return Estimate(frozen, trained, memory, (generated + embedded) * batches.accumulation, operations)


def _items(config: Config) -> int:
    """Return the rows of the .item file, or distinct items of the interactions: the most items that a run can have."""
    if config["dataset"] == NO_DATASET:
        return 0
    folder = Path(config["data_path"])
    for suffix in ("item", "inter"):
        path = folder / f"{config['dataset']}.{suffix}"
        if path.is_file():
            with path.open(encoding=config["encoding"] or "utf-8") as lines:
                names = next(lines).rstrip("\n").split(config["field_separator"])
                column = [name.partition(":")[0] for name in names].index(config["ITEM_ID_FIELD"])
                return len({line.rstrip("\n").split(config["field_separator"])[column] for line in lines})
    return 0


def _measured_speed(device: torch.device, half: bool) -> float:
    """Return floating-point operations per second of a matrix product on the device of the run."""
    size = 4096 if is_gpu(device) else 1024
    matrix = torch.ones(size, size, device=device, dtype=torch.bfloat16 if half else torch.float32)

    def seconds(times: int) -> float:
        started = time.perf_counter()
        product = matrix
        for _ in range(times):
            product = matrix @ matrix
        product[0, 0].item()  # waits for a GPU
        return time.perf_counter() - started

    seconds(1)
    return 4 * 2.0 * size**3 / seconds(4)


def _described(found: Estimate, config: Config) -> str:
    half = choose_precision(config["precision"], config["device"]) == "bf16"
    device = config["device"]
    lines = [
        f"dry run of {config['model']} on {config['dataset']}; nothing is loaded, numbers are estimates",
        f"backbone {config['backbone']}: {found.backbone:,} parameters, frozen; trained: {found.trained:,}",
        "",
        f"memory of {'one process' if world() == 1 else f'each of {world()} processes'}",
        *(f"  {name:<45}{value / GIB:>9.2f} GiB" for name, value in found.memory.items()),
        f"  {'in all':<45}{sum(found.memory.values()) / GIB:>9.2f} GiB",
        "  Activations are within a factor of two; logits, buffers of libraries and the CUDA context (about 1 GiB) are "
        "not counted.",
    ]
    if is_gpu(device):
        there = torch.cuda.get_device_properties(device).total_memory
        lines.append(f"  {device} has {there / GIB:.2f} GiB")
    speed = _measured_speed(device, half)
    step = found.operations / speed / world()
    lines += [
        "",
        f"time of a step: at most {found.tokens:,} tokens, {found.operations / 1e12:.2f} TFLOP",
        f"  {device}: {speed / 1e12:.2f} TFLOP/s (a matrix product): {step:,.1f} s a step of the longest texts",
    ]
    if steps := config["max_steps"]:
        lines.append(f"  {steps:,} steps: {_duration(steps * step)}, without validations, tests and baselines")
    if config["time_budget"]:
        lines.append(f"  time_budget ends the run after {_duration(config['time_budget'])} in any case")
    return "\n".join(lines)


def _duration(seconds: float) -> str:
    if seconds >= 5400:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
