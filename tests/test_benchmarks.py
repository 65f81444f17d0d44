"""What benchmarks compute apart from times."""

import json
import math
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml

from benchmarks import all as every
from benchmarks import (
    data,
    evaluation,
    frame,
    generation,
    iak,
    late_interaction,
    matching,
    padding,
    parts,
    quality_per_minute,
    s2sched,
    scaling,
    serving,
    tmole,
)
from benchmarks.full_text import FullText
from recbole_recfound.config.configurator import Config
from recbole_recfound.data.split.protocol import build_splits
from recbole_recfound.errors import DataError
from recbole_recfound.model.reading.ctr import ClickModel
from recbole_recfound.model.trained import trained_parameters


def _write(path, *pairs):
    rows = [
        {"text": [f"Same?\nProduct 1: {a}\nProduct 2: {b}\nAnswer:", answer], "task": "Product_Matching"}
        for a, b, answer in pairs
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_matching_by_common_words(tmp_path, capsys):
    """The threshold comes from the training part (2 of 3 words is yes there): one of two is right, one is wrong."""
    train = _write(
        tmp_path / "train.jsonl", ("red shoe; price: 5", "red shoe x; price: 9", "yes"), ("red shoe", "red hat", "no")
    )
    test = _write(
        tmp_path / "test.jsonl",
        ("a b c", "A, b, c", "yes"),
        ("a b c", "a b c", "no"),
        ("a b", "c d", "yes"),
        ("a b", "c d", "no"),
    )
    assert matching.main([str(train), str(test), "--json", str(tmp_path / "found.json")]) == 0
    assert json.loads((tmp_path / "found.json").read_text())["ratios"] == {
        "always_yes": pytest.approx(2 / 3),
        "jaccard": 0.5,
    }
    assert "jaccard" in capsys.readouterr().out
    (tmp_path / "odd.jsonl").write_text(json.dumps({"text": ["Same?", "no"], "task": "Product_Matching"}))
    with pytest.raises(DataError, match="odd.jsonl: record 1 of PM: the prompt does not hold two products"):
        matching.overlaps(tmp_path / "odd.jsonl")


NAMES = {
    tmole: {
        "step_over_lora",
        "step_over_lora of 3 experts",
        "step_over_lora of 12 experts",
        "step_over_same_rank_lora",
        "one_kind_step_over_lora",
        "layer_over_loop",
        "activations_over_lora",
        "folded_over_lora",
    },
    generation: {"constrained_over_free", "batched_over_single", "large_over_small_mask"},
    iak: {"bank_over_base", "bank_over_loop", "training_over_loop"},
    serving: {"faiss_over_exact", "recall", "batched_over_single", "clients_over_one"},
}


@pytest.mark.parametrize("benchmark", NAMES, ids=lambda module: module.__name__)
def test_a_benchmark_measures_what_it_names(benchmark, tmp_path):
    """At a size at which the numbers themselves mean nothing: a missed mark is no failure here."""
    seconds = [] if benchmark is serving else ["--seconds", "1"]
    assert benchmark.main(["--quick", *seconds, "--json", str(tmp_path / "found.json")]) in (0, 1)
    told = json.loads((tmp_path / "found.json").read_text())
    assert NAMES[benchmark] == set(told["ratios"]) and all(
        0 < ratio < float("inf") for ratio in told["ratios"].values()
    )
    for name, (low, high) in told.get("quartiles", {}).items():
        assert low <= told["ratios"][name] <= high


ON_ML_100K = {
    data: {"loader_over_step", "startup_seconds"},
    evaluation: {"over_bare_encoding"},
    s2sched: {"probe_share", "probe_share_uncapped", "rank_correlation"},
    quality_per_minute: {"recfound_over_best_baseline"},
}


@pytest.mark.parametrize("benchmark", ON_ML_100K, ids=lambda module: module.__name__)
def test_a_benchmark_on_real_data_prints_what_it_names(benchmark, tiny_backbone, tmp_path):
    options = ["--quick", "--seconds", "1", "--backbone", str(tiny_backbone), "--json", str(tmp_path / "found.json")]
    names = ["--baselines", "Pop"] if benchmark is quality_per_minute else []
    assert benchmark.main([*options, *names]) in (0, 1)
    assert json.loads((tmp_path / "found.json").read_text())["ratios"].keys() == ON_ML_100K[benchmark]


def test_one_command_names_every_benchmark(tmp_path, monkeypatch):
    """It collects what each of them writes; a benchmark that fails or misses a mark is not passed over."""
    modules = {file.stem for file in Path(every.__file__).parent.glob("*.py") if "def main(" in file.read_text()}
    assert modules - {"all", "flipped", "matching", "parts"} == set(every.MODULES)  # these need data that are named
    asked = []

    def run(command, check):
        asked.append(command)
        Path(command[command.index("--json") + 1]).write_text('{"ratios": {"a": 1.0}}')
        return SimpleNamespace(returncode=len(asked) - 1)

    monkeypatch.setattr(every.subprocess, "run", run)
    assert every.main(["--quick", "--only", "tmole,data", "--json", str(tmp_path / "all.json")]) == 1
    found = json.loads((tmp_path / "all.json").read_text())
    assert list(found) == ["tmole", "data"] and found["data"]["ratios"] == {"a": 1.0}
    assert all(command[-1] == "--quick" for command in asked)


def test_the_llm_computes_few_rows_without_an_item(tiny_backbone, tmp_path):
    """Counted, not timed: the sequences of a step fill the rows that the LLM reads."""
    options = ["--quick", "--backbone", str(tiny_backbone), "--seconds", "1", "--json", str(tmp_path / "found.json")]
    assert padding.main(options) in (0, 1)
    ratios = json.loads((tmp_path / "found.json").read_text())["ratios"]
    assert 1.0 <= ratios["rows_over_tokens of ml-100k"] <= padding.MARKS["rows_over_tokens"].value
    assert ratios["step_over_frozen_layers of ml-100k"] > 0


RATIOS = ("train_throughput_over_text", "latency_text_over_late", "latency_one_by_one_over_late")
LATE = {
    *(f"{ratio} {states}" for ratio in (*RATIOS, "latency_text_over_known") for states in ("all", "last")),
    "latency_text_over_empty last",
    "cache_build_seconds",
    *(f"{metric} {form}" for metric in ("auc", "logloss") for form in ("text", "all", "last")),
}


def test_late_interaction_beside_full_text(tiny_backbone, tiny_path, tmp_path):
    options = ["--quick", "--backbone", str(tiny_backbone), "--data", str(tiny_path / "tiny"), "--joint", "2"]
    wanted = ["--seconds", "0.1", "--training", "0.1", "--validation", "24", "--json", str(tmp_path / "found.json")]
    assert late_interaction.main([*options, *wanted]) in (0, 1)
    told = json.loads((tmp_path / "found.json").read_text())
    assert set(told["ratios"]) == LATE and all(0 < value < float("inf") for value in told["ratios"].values())
    assert told["segments"] > 20


class Blocks(FullText):
    """Full text whose lower layers keep segments apart: late interaction, without its caches and shared sources."""

    def below(self, pairs):
        new = pairs.segments.diff(dim=1, prepend=pairs.segments[:, :1] - 1) != 0
        place = torch.arange(new.shape[1])
        places = place - torch.where(new, place, 0).cummax(1).values
        same = (pairs.segments[:, :, None] == pairs.segments[:, None, :]).tril()
        return self.run(self.decoder.embed_tokens(pairs.ids), same, places, slice(self.reader.depth))


def test_full_text_differs_from_late_interaction_in_what_the_lower_layers_see(tiny_backbone, tiny_path):
    settings = {
        "data_path": str(tiny_path),
        "backbone": str(tiny_backbone),
        "use_gpu": False,
        "threshold": {"rating": 4},
        "eval_args": {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "TO", "group_by": "none", "mode": "labeled"},
        "late_args": {"joint_layers": 2, "states": "all", "targets": 3},
        "text_args": {"behaviours": 2, "max_tokens": 12},
    }
    config = Config("M6Rec", "tiny", None, settings)
    data = build_splits(config).train_set
    forms = {}
    for kind in (ClickModel, Blocks, FullText):
        torch.manual_seed(0)
        forms[kind] = model = kind(config, data)
        model.texts = forms[ClickModel].texts
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for weight in trained_parameters(model).values():
                weight.copy_(0.3 * torch.randn(weight.shape, generator=generator))
    examples = [one for one in forms[ClickModel].examples(data.inter_feat) if len(one) > 1][-4:]
    late, blocks, text = (model([one.pack for one in examples]) for model in forms.values())
    torch.testing.assert_close(blocks, late, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(text, late, atol=1e-3)
    # How pairs are put together changes nothing, and what is trained is what late interaction trains.
    forms[FullText].rows = 1
    torch.testing.assert_close(forms[FullText]([one.pack for one in examples]), text, atol=1e-5, rtol=1e-5)
    forms[FullText].loss_of(examples).backward()
    learned = {name for name, weight in forms[FullText].named_parameters() if weight.grad is not None}
    assert learned == set(trained_parameters(forms[ClickModel]))
    # The source sees no candidate: its tokens have the states that they have with another one.
    pack = examples[0].pack
    pairs = forms[FullText].pairs([(pack, target) for target in pack.targets[:2]])
    assert not torch.equal(pairs.ids[0], pairs.ids[1])
    states = forms[FullText].below(pairs)
    torch.testing.assert_close(states[0][pairs.sources[0]], states[1][pairs.sources[1]], atol=1e-6, rtol=1e-5)


def test_how_cost_grows():
    """Every stage of a small point is measured; slopes are exponents between the two largest sizes."""
    point = scaling.Point(users=40, items=30, interactions=400, history=8, experts=1, tasks=len(scaling.TASKS))
    found = scaling.measure(point)
    assert set(found) == {*scaling.STAGES, scaling.PEAK} and all(value > 0 for value in found.values())
    linear = {size: dict.fromkeys(scaling.STAGES, size / 100) for size in (10, 100, 400)}
    linear[400] |= {"rank": 16.0, "texts": 0.5}
    slopes = scaling.slopes(list(linear.items()))
    assert slopes == {name: pytest.approx(2.0 if name == "rank" else 1.0) for name in ("read", "build", "step", "rank")}


def test_what_parts_are_worth(small_settings, tmp_path, monkeypatch, capsys):
    """Rows are trained once, then read; a model for each task has its own task's score alone."""
    monkeypatch.setattr(parts, "ROWS", {name: parts.ROWS[name] for name in (parts.OURS, "one LoRA")})
    file = tmp_path / "settings.yaml"
    file.write_text(yaml.safe_dump({**small_settings, "tasks": ["U2I", "SR"], "max_steps": 2, "eval_interval": 1}))
    call = [str(tmp_path / "out"), "--dataset", "tiny", "--settings", str(file), "--seeds", "1"]
    assert parts.main([*call, "--json", str(tmp_path / "found.json")]) == 0
    told = json.loads((tmp_path / "found.json").read_text())
    assert list(told["rows"]) == [parts.OURS, "one LoRA", parts.BEST, parts.ALONE]
    assert all(list(row["tasks"]) == ["SR", "U2I"] for row in told["rows"].values())
    found = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "out").glob("1-*.json")}
    assert set(found) == {"1-RecFound", "1-one_LoRA", "1-only_U2I", "1-only_SR"}
    assert told["rows"][parts.ALONE]["tasks"]["U2I"][0] == found["1-only_U2I"]["scores"]["U2I"]
    assert found["1-only_SR"]["tasks"]["SR"]["seen"] >= found["1-RecFound"]["tasks"]["SR"]["seen"]
    monkeypatch.delattr(parts, "trained")
    assert parts.main(call) == 0
    assert capsys.readouterr().out.count("| RecFound |") == 2


def test_scores_of_parts_are_normalised_by_the_best_row_of_each_task():
    scores = {parts.OURS: {"a": 0.5, "b": 8.0}, "x": {"a": 0.2, "b": 10.0}, "y": {"a": 0.1, "b": 0.0}}
    losses = {parts.OURS: {"a": 1.0, "b": 2.0}, "x": {"a": 2.0, "b": 4.0}, "y": {}}
    seeds = [{name: parts.Measured(scores[name], losses[name]) for name in scores} for _ in range(2)]
    seeds[1][parts.OURS] = parts.Measured({"a": 0.3, "b": 8.0}, losses[parts.OURS])
    rows = parts.summarise(seeds)
    assert rows[parts.OURS]["mean"] == pytest.approx((1.0 + 0.8) / 2) and rows["x"]["mean"] == pytest.approx(0.75)
    assert rows[parts.OURS]["spread"] == pytest.approx((1.25 - 0.75) / 2 / 2**0.5)
    assert rows[parts.OURS]["tasks"]["a"] == [pytest.approx(0.4), pytest.approx(0.2 / 2**0.5)]
    assert rows["y"]["paired"]["difference"] == pytest.approx(0.125 - 0.9) and rows[parts.OURS]["paired"] is None
    assert rows["x"]["losses"]["difference"] == pytest.approx(math.log(2)) and rows["y"]["losses"] is None
    assert re.search(r"\| x \| 0.750 ± 0.000 \| -0.150 \| [01].\d+ \| 2.000 \| 0.125 \|", parts.table(rows))


def test_a_task_that_no_row_has_learnt_is_not_in_the_mean():
    """Divided by the best row, a chance hit of one row would be its whole score."""
    scores = {parts.OURS: {"a": 0.5, "b": 0.0}, "x": {"a": 0.4, "b": 0.01}}
    rows = parts.summarise([{name: parts.Measured(found, {}) for name, found in scores.items()}] * 2)
    assert rows[parts.OURS]["counted"] == ["a"] and rows["x"]["mean"] == pytest.approx(0.8)
    assert "b (not learnt, not in the mean)" in parts.table(rows)


def test_sides_are_timed_in_turn():
    """By a clock of the test: medians of the ratios of each round, the first of which only warms up."""
    order = []
    times = frame.in_turn(
        {"a": lambda: order.append("a"), "b": lambda: order.append("b")}, torch.get_default_device(), 0.0, least=2
    )
    assert "".join(order) == "baabba" and [len(found) for found in times.seconds.values()] == [2, 2]
    found = frame.Times({"a": [2.0, 8.0, 3.0, 3.0, 30.0], "b": [1.0, 2.0, 3.0, 6.0, 10.0]})
    assert found.ratio("a", "b")[0] == 2.0 and found.medians() == {"a": 3.0, "b": 3.0}


def test_a_missed_mark_is_said(tmp_path, capsys):
    given = SimpleNamespace(json=tmp_path / "found.json")
    marks = {"fast": frame.Mark(0.9, least=True), "small": frame.Mark(1.1)}
    assert frame.finish({"fast": 0.95, "small of x": (1.0, 0.9, 1.2)}, marks, given) == 0
    assert frame.finish({"fast": 0.5, "small of x": (1.2, 1.2, 1.2)}, marks, given) == 1
    assert capsys.readouterr().out.count("MISSED") == 2
    assert json.loads(given.json.read_text())["ratios"] == {"fast": 0.5, "small of x": 1.2}
