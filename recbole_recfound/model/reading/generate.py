"""Texts written behind a source: explanations, titles of new items, queries, answers of a conversation."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NoReturn

import numpy as np
import torch
from recbole.data.interaction import Interaction
from recbole.utils import InputType, ModelType
from torch.nn import functional as F

from recbole_recfound.backbone import logits_of
from recbole_recfound.backbone.head import check_logits
from recbole_recfound.backbone.segments import ALL
from recbole_recfound.config.configurator import Config
from recbole_recfound.data.behaviour import Pack, Source
from recbole_recfound.data.behaviour.dataset import BehaviourDataset
from recbole_recfound.data.behaviour.segments import CANDIDATE, PAST
from recbole_recfound.data.multi_task import catalogue_of
from recbole_recfound.data.text import plain_tokens
from recbole_recfound.data.writing.records import CUES, Writing, Writings, read_writings, with_catalogue
from recbole_recfound.errors import ConfigError
from recbole_recfound.model.late import GrowingKeys, Rows, run_layers
from recbole_recfound.model.m6rec import Example, M6Rec, OptionNames, register_task
from recbole_recfound.model.m6rec_options import GenerateOptions
from recbole_recfound.model.reading.base import SegmentModel

WRITTEN = 32
"""Texts written, or scored, at a time."""


@dataclass(frozen=True)
class WritingExample(Example):
    """A text to be written; `answers` are its tokens and the end of text.

    Attributes:
        cue: tokens before it, which are not learned.
    """

    cue: tuple[int, ...]

    def __len__(self) -> int:
        return 1


@dataclass
class Behind:
    """What a text is written behind.

    Attributes:
        keys: of all layers: of the source in the joint layers, and of what is written in all.
        seen: bool [B, K], keys of the joint layers that are no padding.
        start: int64 [B], states before what is written: prompts and source.
        own: bool [B, T], what is written, without padding.
    """

    keys: GrowingKeys
    seen: torch.Tensor
    start: torch.Tensor
    own: torch.Tensor


@register_task("generate")
class GenerateModel(SegmentModel):
    """A writer; see `SegmentModel` for the arguments.

    The source is bidirectional in the joint layers. What is written is causal, alone in the lower layers and behind the
    source in the joint ones; the language model's own head reads it.

    Attributes:
        writings: examples of all parts.
        cut: targets that were longer than `generate_args: {max_tokens}`.
    """

    type = ModelType.GENERAL
    input_type = InputType.PAIRWISE
    modes = ("full",)
    reads: ClassVar[OptionNames] = {**SegmentModel.reads, "generate_args": GenerateOptions.names()}
    texts_are = "segments of sources"
    states = ALL

    def __init__(self, config: Config, dataset: BehaviourDataset, beside: M6Rec | None = None) -> None:
        self.options = GenerateOptions.of(config["generate_args"], "generate_args")
        catalogue = catalogue_of(config, dataset)
        items = dataset.id2token(dataset.iid_field, dataset.inter_feat[dataset.iid_field].numpy())
        self.writings: Writings = with_catalogue(
            read_writings(config["task_files"]),
            catalogue,
            [catalogue.row_of[str(token)] for token in items],
            self.options.from_items,
            self.options.held_out,
            self.options.most,
            config["seed"],
        )
        super().__init__(config, dataset, beside)
        check_logits(self.lm.model, torch.arange(8, device=self.device)[None])
        self.end = int(self.lm.tokenizer.eos_token_id)
        self.cues = dict(zip(CUES, map(tuple, plain_tokens(list(CUES.values()), self.lm.tokenizer)), strict=True))
        self.cut = 0
        self._examples = {part: self._examples_of(found) for part, found in self.writings.parts.items()}
        self.to(self.device)

    @property
    def longest(self) -> int:
        """Most states that the joint layers read together: source, cue and text."""
        cues = plain_tokens(list(CUES.values()), self.lm.tokenizer)
        segments = max(len(writing.source) for part in self.writings.parts.values() for writing in part)
        own = max(map(len, cues)) + self.options.max_tokens
        return self.reader.before[self.option_set] + segments * self.text.max_tokens + own

    def read_texts(self) -> list[str]:
        """Return the segments of all sources; `generate_args: {max_tokens}` cuts the texts behind them."""
        writings = (writing for part in self.writings.parts.values() for writing in part)
        return list(dict.fromkeys(segment for writing in writings for segment in writing.source))

    @classmethod
    def own_settings(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the task's defaults: a text has a loss for each of its tokens.

        Args:
            given: the user's settings.
        """
        return {**super().own_settings(given), "train_batch_size": 32, "eval_interval": None}

    @classmethod
    def check(cls, config: Config) -> None:
        """Refuse settings and records that the task cannot use; see `M6Rec.check`.

        Raises:
            DataError: malformed records.
        """
        super().check(config)
        options = GenerateOptions.of(config["generate_args"], "generate_args")
        if not read_writings(config["task_files"]).parts["train"] and not options.from_items:
            raise ConfigError("generate: no records in task_files, and generate_args: {from_items} is empty")

    # Examples --------------------------------------------------------------------------------------------------------

    def source_of(self, texts: Sequence[str]) -> Source:
        """Return the source that segments of text make."""
        segments = np.array([self.texts.table.add(text) for text in texts], dtype=np.int64)
        return Source(segments, np.full(len(texts), PAST))

    def _examples_of(self, writings: Sequence[Writing]) -> list[WritingExample]:
        """Return examples; a target that is cut has no end of text."""
        most, found = self.options.max_tokens, []
        tokens = plain_tokens([f" {writing.target}" for writing in writings], self.lm.tokenizer) if writings else []
        for writing, ids in zip(writings, tokens, strict=True):
            self.cut += len(ids) > most
            pack = Pack(self.source_of(writing.source), np.zeros((1, 0), dtype=np.int64), np.zeros(0, dtype=np.int64))
            answers = [*ids, self.end] if len(ids) <= most else ids[:most]
            found.append(WritingExample(pack, np.array(answers), self.cues[writing.task]))
        return found

    def examples(self, rows: Interaction, epoch: int = 0) -> list[Example]:
        """Return the training examples, which are none of interactions; see `M6Rec.examples`."""
        return list(self._examples["train"])

    def requests(self, rows: Sequence[Interaction]) -> set[int]:
        """Return the segments of validation and test; see `SegmentModel.requests`."""
        held_out = [*self._examples["valid"], *self._examples["test"]]
        return {segment for example in held_out for segment in example.pack.source.segments.tolist()}

    def prepare(self, batches: Sequence[Sequence[Example]], seconds: float) -> Iterator[int]:
        """Yield nothing: training starts from the language model; see `SegmentModel.prepare`."""
        return iter(())

    # Reading and writing ---------------------------------------------------------------------------------------------

    def read(self, sources: Sequence[Source]) -> Behind:
        """Run sources through the joint layers and keep their keys and values.

        Args:
            sources: B sources.
        """
        self.use()
        segments = np.concatenate([source.segments for source in sources])
        distinct, inverse = np.unique(segments, return_inverse=True)
        states = self.cache.get([self.texts.table.texts[segment] for segment in distinct])
        kinds = np.concatenate([source.kinds for source in sources])
        counts = np.array([len(source.segments) for source in sources])
        rows = Rows.of(torch.cat(states), np.array([len(own) for own in states]), inverse, kinds, counts)
        prompts = self.reader.prompts()
        first = prompts.expand(len(sources), *prompts.shape)
        inputs = torch.cat([first, self.reader.with_kinds(rows, self.kinds)], dim=1).to(rows.states.dtype)
        seen = torch.cat([rows.mask.new_ones(len(sources), len(prompts)), rows.mask], dim=1)
        places = torch.arange(inputs.shape[1], device=seen.device)[None]
        keys = GrowingKeys()
        allowed = seen[:, None, :].expand(-1, inputs.shape[1], -1)
        run_layers(self.decoder, slice(self.reader.depth, None), inputs, allowed, places, keys)
        return Behind(keys, seen, len(prompts) + rows.lengths, seen[:, :0])

    def extend(self, behind: Behind, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return the final states of further tokens, [B, T, d], which are added to what is written.

        Args:
            behind: of `read`, changed in place.
            ids: int64 [B, T].
            mask: bool [B, T], False on the padding.
        """
        before, width = behind.own.shape[1], ids.shape[1]
        behind.own = torch.cat([behind.own, mask], dim=1)
        causal = torch.ones(width, before + width, dtype=torch.bool, device=ids.device).tril(before)
        own = causal & behind.own[:, None, :]
        places = torch.arange(before, before + width, device=ids.device)[None]
        depth = self.reader.depth
        with torch.no_grad():  # frozen
            embedded = self.decoder.embed_tokens(ids)
            states = run_layers(self.decoder, slice(depth), embedded, own, places, behind.keys)
        inputs = states.float() + self.reader.scale * self.kinds.weight[CANDIDATE]
        allowed = torch.cat([behind.seen[:, None, :].expand(-1, width, -1), own], dim=2)
        places = behind.start[:, None] + places
        joint = slice(depth, None)
        return self.decoder.norm(run_layers(self.decoder, joint, inputs.to(states.dtype), allowed, places, behind.keys))

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """Return the logits of the next token, float32 [..., V], behind final states [..., d]."""
        return logits_of(self.reader.adapted.get_base_model(), states).float()

    def token_losses(self, examples: Sequence[Example]) -> torch.Tensor:
        """Return the cross-entropy of each token of the targets, [n], by example.

        Args:
            examples: of `examples`.
        """
        behind = self.read([example.pack.source for example in examples])
        rows: list[list[int]] = []
        wanted: list[list[int]] = []
        for example in examples:
            assert isinstance(example, WritingExample)
            answers = example.answers.tolist()
            rows.append([*example.cue, *answers[:-1]])
            wanted.append([-1] * (len(example.cue) - 1) + answers)
        width = max(map(len, rows))
        ids = torch.tensor([row + [self.end] * (width - len(row)) for row in rows], device=self.device)
        labels = torch.tensor([row + [-1] * (width - len(row)) for row in wanted], device=self.device)
        lengths = torch.tensor([len(row) for row in rows], device=self.device)
        mask = torch.arange(width, device=self.device) < lengths[:, None]
        states = self.extend(behind, ids, mask)
        learned = labels >= 0
        return F.cross_entropy(self.logits(states[learned]), labels[learned], reduction="none")

    def loss_of(self, examples: Sequence[Example]) -> torch.Tensor:
        """Return the mean over all tokens of the targets; see `M6Rec.loss_of`."""
        return self.token_losses(examples).mean()

    @torch.no_grad()
    def losses(self, part: str) -> dict[str, torch.Tensor]:
        """Return the losses of all tokens of a part by task; the exponential of a mean is a perplexity.

        Args:
            part: train, valid or test.
        """
        by_task: dict[str, list[WritingExample]] = {}
        for writing, example in zip(self.writings.parts[part], self._examples[part], strict=True):
            by_task.setdefault(writing.task, []).append(example)
        found = {}
        for task, examples in by_task.items():
            examples.sort(key=lambda example: len(example.answers))
            batches = [examples[start : start + WRITTEN] for start in range(0, len(examples), WRITTEN)]
            found[task] = torch.cat([self.token_losses(batch) for batch in batches])
        return found

    def write(self, requests: Sequence[tuple[str, Sequence[str]]], max_tokens: int | None = None) -> list[str]:
        """Return the most probable text, token by token, of each request.

        Args:
            requests: task and source segments.
            max_tokens: longest text; None: that of the settings.
        """
        order = sorted(range(len(requests)), key=lambda number: requests[number][0])
        found: dict[int, str] = {}
        for task, group in itertools.groupby(order, key=lambda number: requests[number][0]):
            numbers = list(group)
            for start in range(0, len(numbers), WRITTEN):
                part = numbers[start : start + WRITTEN]
                tokens = self.write_tokens(task, [self.source_of(requests[number][1]) for number in part], max_tokens)
                found |= dict(zip(part, map(self._text_of, tokens), strict=True))
        return [found[number] for number in range(len(requests))]

    def _text_of(self, tokens: list[int]) -> str:
        return str(self.lm.tokenizer.decode(tokens, skip_special_tokens=True)).strip()

    @torch.no_grad()
    def write_tokens(self, task: str, sources: Sequence[Source], max_tokens: int | None = None) -> list[list[int]]:
        """Return the tokens of greedy decoding, without the end of text.

        Args:
            task: one of `CUES`.
            sources: B sources, read together.
            max_tokens: longest text; None: that of the settings.
        """
        behind = self.read(sources)
        ids = torch.tensor([self.cues[task]] * len(sources), device=self.device)
        written: list[torch.Tensor] = []
        ended = torch.zeros(len(sources), dtype=torch.bool, device=self.device)
        for _ in range(max_tokens or self.options.max_tokens):
            states = self.extend(behind, ids, torch.ones_like(ids, dtype=torch.bool))
            best = self.logits(states[:, -1]).argmax(-1)
            ended |= best == self.end
            if ended.all():
                break
            written.append(best)
            ids = best[:, None]
        rows = torch.stack(written, dim=1).tolist() if written else [[] for _ in sources]
        return [list(itertools.takewhile(lambda token: token != self.end, row)) for row in rows]

    # Scoring ---------------------------------------------------------------------------------------------------------

    def predict(self, interaction: Interaction) -> NoReturn:
        """Refuse: texts are written, no items are scored."""
        raise ConfigError("m6rec_task: generate writes texts and scores no items")

    full_sort_predict = predict
