"""What TMoLE costs beside plain LoRA and beside a loop over experts.

    python -m benchmarks.tmole --json tmole.json

Every ratio is a median over rounds in which all sides are timed in turn. On a CPU one thread is used and its CPU time
is counted; on another device, wall time after synchronisation.

The backbone has SmolLM2-135M's shape, fewer layers and random weights: time does not depend on their values.

Ratios (below 1: TMoLE is cheaper):
    step_over_lora            training step, 6 experts r 16 on q, k, v, o, against LoRA r 16
    step_over_lora of N       the same with 3 and 12 experts
    step_over_same_rank_lora  the same against LoRA of the whole rank, 96
    one_kind_step_over_lora   the same step with embedding and generative rows in two forwards, as RecFound trains
    layer_over_loop           forward and backward of one adapted layer against a loop over experts
    activations_over_lora     bytes kept for backward by the step's forward, against LoRA r 16
    folded_over_lora          forward of one task folded into a plain LoRA, against LoRA r 16
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping

import torch
from peft import PeftModel, get_peft_model, set_peft_model_state_dict
from torch import nn
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from benchmarks.frame import Mark, Ratios, finish, in_turn, options
from recbole_recfound.adapter import build_adapter, export_lora, routing
from recbole_recfound.adapter.tmole import TMoLELayer
from recbole_recfound.adapter.tmole.routing import Route, use_route
from recbole_recfound.data.task import task_table
from tests.reference.expert_loop import ExpertLoop

SHAPE = LlamaConfig(
    hidden_size=576,
    intermediate_size=1536,
    num_hidden_layers=30,
    num_attention_heads=9,
    num_key_value_heads=3,
    vocab_size=49152,
    tie_word_embeddings=True,
)
EMBEDDING_TASKS, GENERATIVE_TASKS = ("U2I", "Q2I", "I2I"), ("SR", "SA", "IP", "AVE")
MARKS = {
    "step_over_lora": Mark(1.10),
    "step_over_same_rank_lora": Mark(1.03),
    "activations_over_lora": Mark(1.15),
    "layer_over_loop": Mark(0.5),
    "folded_over_lora": Mark(1.05),
}
EXPERTS = {3: {"experts_per_group": 1}, 12: {"experts_per_group": 4}}
"""Numbers of experts beside the default, six: the same number in each of three groups."""


class Bench:
    """One batch, one backbone, and the ways to adapt it.

    Args:
        device: where to run.
        dtype: of the backbone; below float32 the step runs under autocast.
        rows: examples of a batch, half of them embedding, half generative.
        length: tokens of an example.
        layers: decoder layers of the backbone.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype, rows: int, length: int, layers: int) -> None:
        self.device, self.dtype = device, dtype
        SHAPE.num_hidden_layers = layers
        torch.manual_seed(0)
        self.source = LlamaForCausalLM(SHAPE).to(device, dtype)
        self.ids = torch.randint(3, SHAPE.vocab_size, (rows, length), device=device)
        half = rows // 2
        self.tasks = [EMBEDDING_TASKS[row % 3] for row in range(half)]
        self.tasks += [GENERATIVE_TASKS[row % 4] for row in range(rows - half)]
        self.half = half

    def backbone(self) -> PreTrainedModel:
        """Return a new backbone that shares the weights of all others."""
        with torch.device("meta"):
            twin = LlamaForCausalLM(SHAPE)
        twin.load_state_dict(self.source.state_dict(), strict=True, assign=True)
        twin.model.rotary_emb = self.source.model.rotary_emb
        twin.tie_weights()
        return twin

    def model(self, kind: str, **options: object) -> PeftModel:
        """Return an adapted backbone in training mode with non-zero B."""
        torch.manual_seed(1)
        model = build_adapter(self.backbone(), kind, task_table(), **options).train()
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                nn.init.normal_(parameter, std=0.02)
        return model

    def loss(self, model: PeftModel, split: bool) -> torch.Tensor:
        """InfoNCE over the embedding rows plus cross-entropy over the last quarter of the generative rows."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype != torch.float32):
            if split:
                embedding = self.hidden(model, slice(0, self.half))
                generative = self.hidden(model, slice(self.half, None))
            else:
                hidden = self.hidden(model, slice(None))
                embedding, generative = hidden[: self.half], hidden[self.half :]
            pooled = F.normalize(embedding.float().mean(1), dim=-1)
            scores = pooled[::2] @ pooled[1::2].T / 0.02
            nce = F.cross_entropy(scores, torch.arange(len(scores), device=self.device))
            answer = generative.shape[1] // 4
            # Flattened first: on a slice of [B, T, d], matmul would copy the vocabulary's weights once per row.
            logits = model.get_base_model().lm_head(generative[:, -answer - 1 : -1].flatten(0, 1))
            return nce + F.cross_entropy(logits.float(), self.ids[self.half :, -answer:].flatten())

    def hidden(self, model: PeftModel, rows: slice) -> torch.Tensor:
        """Last hidden states of some rows under their tasks."""
        with routing(model, self.tasks[rows]):
            return model.get_base_model().model(self.ids[rows], use_cache=False).last_hidden_state

    def stepper(self, model: PeftModel, split: bool = False) -> Callable[[], None]:
        """Run a full training step: forward, backward, optimiser."""
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(parameters, lr=1e-6)

        def step() -> None:
            self.loss(model, split).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

        return step

    def kept_bytes(self, model: PeftModel) -> int:
        """Bytes that the step's forward keeps for backward, parameters aside."""
        weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
        kept: dict[int, torch.UntypedStorage] = {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in weights:
                kept[storage.data_ptr()] = storage  # held, so that the address is not used again
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = self.loss(model, split=False)
        del loss
        return sum(storage.nbytes() for storage in kept.values())

    def layer_pair(self, model: PeftModel) -> tuple[Callable[[], None], Callable[[], None]]:
        """Forward and backward of one adapted layer, and of the loop with the same weights."""
        layer = next(module for module in model.modules() if isinstance(module, TMoLELayer))
        loop = ExpertLoop(layer)
        loop.base.requires_grad_(False)
        loop.table = layer.task_table["default"]
        loop.tasks = loop.table.ids(self.tasks)
        x = torch.randn(*self.ids.shape, SHAPE.hidden_size, device=self.device, dtype=self.dtype, requires_grad=True)
        gradient = torch.randn_like(x)

        def run(module: nn.Module) -> None:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype != torch.float32):
                with use_route(
                    Route(self.tasks)
                ):  # of this layer alone: its gate is not worked out together with others
                    out = module(x)
            out.backward(gradient)
            module.zero_grad(set_to_none=True)

        return lambda: run(layer), lambda: run(loop)

    def folded_pair(self, model: PeftModel) -> tuple[Callable[[], None], Callable[[], None]]:
        """Forward of one task as an exported LoRA, and of a LoRA of rank 16."""
        config, state = export_lora(model, "SR")
        folded = get_peft_model(self.backbone(), config).eval()
        set_peft_model_state_dict(folded, state)
        lora = self.model("lora").eval()

        @torch.no_grad()
        def run(adapted: PeftModel) -> None:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype != torch.float32):
                self.hidden(adapted, slice(None))

        return lambda: run(folded), lambda: run(lora)


def measure(bench: Bench, seconds: float) -> tuple[Ratios, Mapping[str, float]]:
    """Return all ratios, and the seconds behind them."""
    tmole, lora = bench.model("tmole"), bench.model("lora")
    activations = bench.kept_bytes(tmole) / bench.kept_bytes(lora)
    sides = {
        "tmole": bench.stepper(tmole),
        "tmole, one kind": bench.stepper(tmole, split=True),
        "lora, one kind": bench.stepper(lora, split=True),
        "same-rank lora": bench.stepper(bench.model("lora", r=96)),
        "lora": bench.stepper(lora),
    }
    for count, given in EXPERTS.items():
        sides[f"tmole {count} experts"] = bench.stepper(bench.model("tmole", **given))
    steps = in_turn(sides, bench.device, 0.7 * seconds)
    layer, loop = bench.layer_pair(tmole)
    layers = in_turn({"layer": layer, "loop": loop}, bench.device, 0.1 * seconds, most=100)
    folded, plain = bench.folded_pair(tmole)
    forwards = in_turn({"folded": folded, "lora forward": plain}, bench.device, 0.2 * seconds)
    ratios: Ratios = {
        "step_over_lora": steps.ratio("tmole", "lora"),
        "step_over_same_rank_lora": steps.ratio("tmole", "same-rank lora"),
        "one_kind_step_over_lora": steps.ratio("tmole, one kind", "lora, one kind"),
        "layer_over_loop": layers.ratio("layer", "loop"),
        "activations_over_lora": (activations,) * 3,
        "folded_over_lora": forwards.ratio("folded", "lora forward"),
    } | {f"step_over_lora of {count} experts": steps.ratio(f"tmole {count} experts", "lora") for count in EXPERTS}
    return ratios, steps.medians() | layers.medians() | forwards.medians()


def main(argv: list[str] | None = None) -> int:
    """Measure, print, write; 1 if a mark is missed."""
    given = options(
        __doc__,
        argv,
        200.0,
        rows=(8, 4, "examples of a batch"),
        length=(64, 16, "tokens of an example"),
        layers=(6, 1, "decoder layers"),
    )
    bench = Bench(given.device, getattr(torch, given.dtype), given.rows, given.length, given.layers)
    ratios, seconds = measure(bench, given.seconds)
    return finish(ratios, MARKS, given, seconds=seconds)


if __name__ == "__main__":
    sys.exit(main())
