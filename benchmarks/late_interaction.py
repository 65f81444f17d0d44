"""What late interaction saves beside full text, and what both have learned after equal seconds.

    python -m benchmarks.late_interaction --json late.json
    python -m benchmarks.late_interaction --training 150 --validation 150    # 15 minutes: a quality that says a little

M6Rec's click model on the rows of a data set. Full text (`benchmarks/full_text.py`) runs all layers over one source and
one candidate in a row; both train the same parts, in the joint layers, and compute gradients there alone. Of full text
some pairs are timed, and their seconds count for each pair alike.

Ratios, each for `states: all` (the paper's form) and `states: last` (the default):
    train_throughput_over_text    examples a second of a training step, over full text: a pack of one user's rows behind
                                  one source, and as many pairs as have the same number of tokens
    latency_text_over_late        one request with 100 candidates, by full text in its best batch size; the states of
                                  items and statistics are known, those of profile and time phrases are not
    latency_one_by_one_over_late  the same, by full text pair by pair
    latency_text_over_known       the states of the source are known as well
    latency_text_over_empty       no state is known

Values:
    cache_build_seconds           of encoding all segments of the pack and of the request
    auc, logloss                  of some validation rows after equal seconds of training, encoding included: half of
                                  them for the start of the classifier, half for steps
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from recbole.utils import init_seed
from sklearn.metrics import log_loss, roc_auc_score

from benchmarks.frame import Mark, Ratios, Times, clock, finish, in_turn, options, progress
from benchmarks.full_text import FullText
from recbole_recfound.backbone import BUNDLED
from recbole_recfound.backbone.segments import ALL, LAST
from recbole_recfound.config.configurator import Config
from recbole_recfound.data.behaviour import Pack, Source
from recbole_recfound.data.behaviour.segments import PROFILE, TIME
from recbole_recfound.data.split.protocol import build_splits
from recbole_recfound.model.m6rec import Example, batches_of
from recbole_recfound.model.reading.ctr import ClickModel
from recbole_recfound.trainer.m6rec import M6RecTrainer

MARKS = {"train_throughput_over_text": Mark(8, least=True), "latency_text_over_late": Mark(5, least=True)}
TEXT = "text"


class Bench:
    """The three forms on one data set, with equal weights.

    Args:
        given: options of the command.
        folder: for what trainers write.
    """

    def __init__(self, given: Any, folder: str) -> None:
        path = Path(given.data)
        where = {"data_path": str(path.parent)} if path.is_dir() else {}
        self.given, self.round = given, 0
        forms: dict[str, tuple[type[ClickModel], str]] = {
            ALL: (ClickModel, ALL),
            LAST: (ClickModel, LAST),
            TEXT: (FullText, ALL),
        }
        self.models: dict[str, ClickModel] = {}
        self.trainers: dict[str, M6RecTrainer] = {}
        for name, (kind, states) in forms.items():
            settings = {
                "backbone": given.backbone,
                "threshold": {"rating": 4},
                "eval_args": {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "TO", "group_by": "none", "mode": "labeled"},
                "late_args": {"joint_layers": given.joint, "states": states, "targets": given.targets},
                "checkpoint_dir": folder,
                "show_progress": False,
                "time_budget": 0,
                "use_gpu": given.device.type != "cpu",
            }
            config = Config("M6Rec", path.name, None, {**settings, **where})
            if not self.models:
                self.splits = build_splits(config)
            init_seed(config["seed"], config["reproducibility"])
            self.models[name] = model = kind(config, self.splits.train_set)
            model.texts = self.models[ALL].texts
            self.trainers[name] = M6RecTrainer(config, model)
        self.text: FullText = self.models[TEXT]  # type: ignore[assignment]
        self.text.rows = given.rows
        examples = self.text.examples(self.splits.train_set.inter_feat)
        self.examples = [examples[number] for number in np.random.default_rng(0).permutation(len(examples))]
        self.example = max(self.examples, key=lambda each: (len(each), len(each.pack.source.segments)))
        self.request = self._request()

    def _request(self) -> Pack:
        """Return the user of the example with candidates drawn at random."""
        texts, generator = self.text.texts, np.random.default_rng(1)
        user = int(np.bincount(self.text.log.users[: self.text.known_rows]).argmax())
        items = 1 + generator.permutation(len(texts.items) - 1)[: self.given.candidates]
        targets = texts.of_requests(np.full(len(items), user), items)
        return Pack(texts.source(user), targets, texts.target_kinds)

    def unknown(self, pack: Pack, everything: bool = False) -> Pack:
        """Return a pack with a profile and time phrases, or also items and statistics, that nobody has had."""
        self.round += 1
        table, source = self.text.texts.table, pack.source

        def new(segment: int) -> int:
            return table.add(f"{table.texts[segment]} {self.round}")

        segments = [
            new(segment) if everything or kind in (PROFILE, TIME) else segment
            for segment, kind in zip(source.segments.tolist(), source.kinds.tolist(), strict=True)
        ]
        targets = np.vectorize(new, otypes=[np.int64])(pack.targets) if everything else pack.targets
        return Pack(Source(np.array(segments), source.kinds), targets, pack.target_kinds)

    def build_caches(self) -> tuple[float, int]:
        """Encode the segments of example and request; return the seconds and how many there are."""
        found = set()
        for pack in (self.example.pack, self.request):
            found |= {*pack.source.segments.tolist(), *pack.targets.reshape(-1).tolist()}
        texts = sorted((self.text.texts.table.texts[segment] for segment in found), key=len)
        self.models[LAST].cache.get(texts)
        started = clock(self.given.device)
        self.models[ALL].cache.get(texts)
        return clock(self.given.device) - started, len(texts)

    def throughput(self, seconds: float) -> tuple[Ratios, Times]:
        """Time training steps."""
        source, targets = self.text.tokens(self.example.pack)
        count = len(self.example)
        pairs = max(1, min(count, round((source + targets) / (source + targets / count))))
        few = _parts(self.example, pairs)[0]
        progress(f"a pack of {count} rows has {source + targets} tokens, as many as {pairs} pairs of full text")
        sides = {
            TEXT: lambda: self.trainers[TEXT]._step([few], 0.5),
            **{name: lambda name=name: self.trainers[name]._step([self.example], 0.5) for name in (ALL, LAST)},
        }
        times = in_turn(sides, self.given.device, seconds, least=1)
        return {
            f"train_throughput_over_text {name}": _scaled(times.ratio(TEXT, name), count / pairs)
            for name in (ALL, LAST)
        }, times

    @torch.no_grad()
    def latency(self, seconds: float) -> tuple[Ratios, Times]:
        """Time one request."""
        for model in self.models.values():
            model.eval()
        whole = len(self.request.targets)
        sizes = sorted({1, max(1, self.given.rows // 2), self.given.rows})

        def text(size: int) -> None:
            self.text.rows = size
            self.text([replace(self.request, targets=self.request.targets[:size])])

        sides: dict[str, Callable[[], object]] = {f"{TEXT} {size}": lambda size=size: text(size) for size in sizes}
        for name in (ALL, LAST):
            model = self.models[name]
            sides[f"{name}, new source"] = lambda model=model: model([self.unknown(self.request)])
            sides[f"{name}, known"] = lambda model=model: model([self.request])
        times = in_turn(sides, self.given.device, 0.8 * seconds, least=1)
        empty = {LAST: lambda: self.models[LAST]([self.unknown(self.request, everything=True)])}
        unknown = in_turn(empty, self.given.device, 0.0, least=1)
        of_pair = {size: times.medians()[f"{TEXT} {size}"] / size for size in sizes}
        best = min(of_pair, key=lambda size: of_pair[size])
        progress(f"full text: seconds of a pair in batches of {of_pair}")
        ratios: Ratios = {}
        for name in (ALL, LAST):
            new, known = f"{name}, new source", f"{name}, known"
            ratios[f"latency_text_over_late {name}"] = _scaled(times.ratio(f"{TEXT} {best}", new), whole / best)
            ratios[f"latency_one_by_one_over_late {name}"] = _scaled(times.ratio(f"{TEXT} 1", new), whole)
            ratios[f"latency_text_over_known {name}"] = _scaled(times.ratio(f"{TEXT} {best}", known), whole / best)
        ratios[f"latency_text_over_empty {LAST}"] = (of_pair[best] * whole / unknown.medians()[LAST],) * 3
        return ratios, Times({**times.seconds, f"{LAST}, nothing known": unknown.seconds[LAST]})

    def quality(self, name: str, seconds: float, count: int) -> dict[str, float]:
        """Train for some seconds and return the metrics of `count` validation rows."""
        model, trainer = self.models[name], self.trainers[name]
        started = time.monotonic()
        batches = self._batches(model)
        list(model.prepare([next(batches) for _ in range(10_000)], 0.5 * seconds))
        prepared, steps = time.monotonic(), trainer.steps
        for batch in batches:
            done = (time.monotonic() - prepared) / max(1e-9, seconds - (prepared - started))
            if not 0 <= done < 1:
                break
            trainer._step(batch, done)
        took = time.monotonic() - started
        rows = self.splits.valid_set.inter_feat
        rows = rows[torch.from_numpy(np.random.default_rng(2).permutation(len(rows))[:count])]
        model.eval()
        with torch.no_grad():
            scores = model.predict(rows).double().numpy(force=True)
        labels = rows[model.label_field].numpy()
        progress(f"{name}: {trainer.steps - steps} steps, {took:.0f} s")
        return {"auc": float(roc_auc_score(labels, scores)), "logloss": float(log_loss(labels, scores))}

    def _batches(self, model: ClickModel) -> Iterator[list[Example]]:
        """Yield batches of examples without end: packs, and of full text as many as have the tokens of a pack."""
        size = self.given.rows if model is self.text else self.given.targets
        while True:
            for example in self.examples:
                yield from batches_of(_parts(example, size), size)


def _parts(example: Example, size: int) -> list[Example]:
    """Divide an example into such of at most `size` targets."""
    pack, answers = example.pack, example.answers
    places = [slice(start, start + size) for start in range(0, len(example), size)]
    return [Example(replace(pack, targets=pack.targets[part]), answers[part]) for part in places]


def _scaled(found: tuple[float, float, float], factor: float) -> tuple[float, float, float]:
    return found[0] * factor, found[1] * factor, found[2] * factor


def main(argv: list[str] | None = None) -> int:
    """Measure, print, write; 1 if a mark is missed."""
    given = options(
        __doc__,
        argv,
        100.0,
        data=("ml-100k", "ml-100k", "name of a data set, or a folder of atomic files"),
        backbone=(BUNDLED, BUNDLED, "causal LM"),
        joint=(3, 3, "joint layers"),
        targets=(20, 4, "rows of a pack"),
        candidates=(100, 8, "candidates of the request"),
        rows=(4, 2, "pairs of a batch of full text, at most"),
        training=(15.0, 2.0, "seconds of training of each form"),
        validation=(40, 8, "validation rows that are scored"),
    )
    given.dtype = "float32"  # of M6-Rec's backbone, everywhere
    with TemporaryDirectory() as folder:
        bench = Bench(given, folder)
        progress("data and models are read")
        built, segments = bench.build_caches()
        progress(f"{segments} segments encoded")
        ratios, steps = bench.throughput(0.5 * given.seconds)
        of_requests, requests = bench.latency(0.5 * given.seconds)
        quality = {name: bench.quality(name, given.training, given.validation) for name in (TEXT, ALL, LAST)}
    values = {f"{metric} {name}": value for name, metrics in quality.items() for metric, value in metrics.items()}
    values["cache_build_seconds"] = built
    seconds = steps.medians() | requests.medians()
    return finish({**ratios, **of_requests, **values}, MARKS, given, seconds=seconds, segments=segments)


if __name__ == "__main__":
    sys.exit(main())
