"""A frozen language model that reads segments of text, with an option set (prompts and adapters) for each task."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from peft import PeftModel, get_peft_model, inject_adapter_in_model
from torch import nn

from recbole_recfound.adapter.lora import lora
from recbole_recfound.adapter.option import OptionConfig, OptionModel
from recbole_recfound.adapter.shared import adapting
from recbole_recfound.backbone import Backbone, Decoder, decode, decoder_of, first_layers
from recbole_recfound.backbone.segments import SegmentCache
from recbole_recfound.data.behaviour import Pack
from recbole_recfound.data.behaviour.segments import QUESTION
from recbole_recfound.data.text import plain_tokens
from recbole_recfound.errors import ConfigError
from recbole_recfound.model.late import JointBatch, Rows, check_layers, joint_layers
from recbole_recfound.model.m6rec_options import ADAPTER, FINE_TUNING, LORA, OPTION_ADAPTER, LateOptions, PromptOptions


class Reading(NamedTuple):
    """States after the joint layers.

    Attributes:
        sources: [B, S, d], before the final norm.
        layout: kinds and mask of the sources.
        targets: float32 [N, K, d], by pack and target: K segments, by kind; 1 for the last state.
    """

    sources: torch.Tensor
    layout: Rows
    targets: torch.Tensor


class SegmentReader(nn.Module):
    """Lower layers that read each segment alone, and joint layers that read a source with its targets.

    The lower layers are frozen and shared by all tasks, with the states of segments that they computed. Each task has
    prompts before the source and adapters in the joint layers.

    Args:
        backbone: frozen language model, adapted in place.
        late: how the layers are divided.
        max_tokens: length of a segment.

    Raises:
        BackboneError: the layers of the backbone cannot be run one by one.

    Attributes:
        lm: the backbone.
        depth: number of lower layers.
        scale: typical size of an entry of a segment's states.
        backbone: the language model with the option sets of all tasks; None before the first.
        before: prompts before the source, by task.
    """

    scale: torch.Tensor

    def __init__(self, backbone: Backbone, late: LateOptions, max_tokens: int) -> None:
        super().__init__()
        self.late, self.max_tokens = late, max_tokens
        self.lm = backbone  # no module of its own: its weights are those of the adapted model
        decoder = self.decoder
        self.layers = len(decoder.layers)
        self.depth = self.layers - late.joint_layers
        self._caches: dict[str, SegmentCache] = {}
        ids = torch.tensor([plain_tokens([QUESTION], backbone.tokenizer)[0]], device=decoder.embed_tokens.weight.device)
        check_layers(decoder, self.depth, ids)
        with torch.no_grad():
            typical = decode(first_layers(decoder, self.depth), decoder.embed_tokens(ids))[0, -1]
        self.register_buffer("scale", typical.float().square().mean().sqrt())
        self.before: dict[str, int] = {}
        self.backbone: PeftModel | None = None

    def add_task(self, task: str, prompt: PromptOptions, classes: int) -> None:
        """Add the option set of a task and make it the active one.

        Args:
            task: name of the adapter.
            prompt: sizes, and what is trained: the first of `tuning`.
            classes: rows of the classifier among the prompts.
        """
        tuning = prompt.tuning[0]
        before = 0 if tuning in (ADAPTER, LORA, FINE_TUNING) else prompt.prompts
        self.before[task] = before
        config = OptionConfig(
            task_type="CAUSAL_LM",
            prompts=max(before, classes, 1),
            classes=classes,
            bottleneck=prompt.bottleneck if tuning in (OPTION_ADAPTER, ADAPTER) else 0,
            scale=float(self.scale),
            layers_to_transform=list(range(self.depth, self.layers)),
        )
        with adapting():
            if self.backbone is None:
                self.backbone = get_peft_model(self.lm.model, config, adapter_name=task)
            else:
                self.backbone.add_adapter(task, config)
        self.use(task)
        if tuning == FINE_TUNING:
            for layer in [*self.decoder.layers[self.depth :], self.decoder.norm]:
                layer.requires_grad_(True)
        elif tuning == LORA:
            self._add_lora(prompt, classes)

    def _add_lora(self, prompt: PromptOptions, classes: int) -> None:
        """Put a LoRA on the joint layers, with as many parameters as the prompts and adapters that it stands for."""
        width, layers, wanted = self.options.width, range(self.depth, self.layers), set(lora().target_modules or ())
        maps = [
            module
            for layer in layers
            for name, module in self.decoder.layers[layer].named_modules()
            if isinstance(module, nn.Linear) and name.rpartition(".")[2] in wanted
        ]
        if not maps:
            names = ", ".join(sorted(wanted))
            raise ConfigError(f"option_args: tuning: {LORA} needs linear maps named {names}, which the backbone lacks")
        adapters = len(layers) * ((2 * width + 1) * prompt.bottleneck + width + 1) * (prompt.bottleneck > 0)
        of_rank_one = sum(module.in_features + module.out_features for module in maps)
        rank = max(1, math.ceil(((prompt.prompts - classes) * width + adapters) / of_rank_one))
        config = lora(rank, 2 * rank, 0.0, layers_to_transform=list(layers))
        with adapting():
            inject_adapter_in_model(config, self.lm.model, LORA)
        for name, weight in self.decoder.named_parameters():
            if ".lora_" in name:
                weight.data = weight.data.float()  # small steps are lost in bf16

    def use(self, task: str) -> None:
        """Read with the option set of a task; only its weights can be trained.

        Args:
            task: name of the adapter.
        """
        if self.adapted.active_adapter != task:
            self.adapted.set_adapter(task)

    def cache_of(self, states: str) -> SegmentCache:
        """Return the states of segments in one form, which all tasks of this form share.

        Args:
            states: see `SegmentCache`.
        """
        if states not in self._caches:
            late = self.late
            self._caches[states] = SegmentCache(
                self.decoder,
                self.lm.tokenizer,
                self.depth,
                states,
                self.max_tokens,
                self.lm.fingerprint,
                late.cache_megabytes << 20,
            )
        return self._caches[states]

    @property
    def adapted(self) -> PeftModel:
        """The language model with the option sets."""
        assert self.backbone is not None, "no task was added"
        return self.backbone

    @property
    def options(self) -> OptionModel:
        """Prompts, classifier and adapters."""
        return cast(OptionModel, self.adapted.base_model)

    @property
    def decoder(self) -> Decoder:
        """The decoder, with its adapters once there are any."""
        return decoder_of(self.lm.model)

    def train(self, mode: bool = True) -> SegmentReader:
        """Switch to training or evaluation; the backbone has no dropout of its own."""
        super().train(mode)
        if self.backbone is not None:
            self.backbone.eval()
        return self

    def read(
        self, packs: Sequence[Pack], texts: Sequence[str], kinds: nn.Embedding, pooling: str, cache: SegmentCache
    ) -> Reading:
        """Return the states of sources and targets after the joint layers.

        Args:
            packs: sources with their targets.
            texts: strings of the segments.
            kinds: vector of each kind of segment, in units of `scale`.
            pooling: `mean` of each segment's states of a target, or the `last` state of all.
            cache: states of segments, in the form that the task keeps.
        """
        batch = JointBatch.of(packs, texts, cache)
        sources, targets = self._inputs(batch, kinds)
        above, pooled = joint_layers(self.decoder, self.depth, batch, sources, targets, pooling)
        return Reading(above[:, sources.shape[1] - batch.sources.mask.shape[1] :], batch.sources, pooled)

    def prompts(self) -> torch.Tensor:
        """Return the prompts before a source of the active task, [P, d]."""
        return self.options.prompts()[: self.before[self.adapted.active_adapter]]

    def _inputs(self, batch: JointBatch, kinds: nn.Embedding) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the input of the first joint layer: prompts and sources [B, P + S, d], targets [N, W, d]."""
        prompts = self.prompts()
        dtype = batch.sources.states.dtype
        first = prompts.expand(len(batch.sources.mask), *prompts.shape)
        sources = torch.cat([first, self.with_kinds(batch.sources, kinds)], dim=1)
        return sources.to(dtype), self.with_kinds(batch.targets, kinds).to(dtype)

    def with_kinds(self, rows: Rows, kinds: nn.Embedding) -> torch.Tensor:
        """Return the states of rows, float32 [B, T, d], with the vector of its segment's kind added to each.

        Args:
            rows: states and kinds.
            kinds: vector of each kind of segment, in units of `scale`.
        """
        return rows.states.float() + self.scale * kinds(rows.kinds)
