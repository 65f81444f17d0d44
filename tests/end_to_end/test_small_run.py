"""Whole runs on a tiny random backbone: what is written, and that training does something."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from recbole_recfound.errors import ConfigError
from recbole_recfound.quick_start import load_recfound, run_recfound


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_path, tiny_backbone):
    """One finished run with a baseline."""
    settings = {
        "data_path": str(tiny_path),
        "backbone": str(tiny_backbone),
        "output_dir": str(tmp_path_factory.mktemp("runs")),
        "show_progress": False,
        "use_gpu": False,
        "precision": "float32",
        "time_budget": 0,
        "max_steps": 6,
        "eval_interval": 2,
        "probe_args": {"interval": 3, "size": 2},
        "tower_args": {"feature_layers": [3]},
        "adapter_args": {"r": 2},
        "batch_args": {"embedding": 4, "contrastive": 2, "generative_chunk": 2},
        "task_args": {"*": {"max_examples": 30, "history_titles": 3}, "SR": {"candidates": 4}},
        "task_test_examples": 3,
        "test_args": {"max_answer_tokens": 12},
        "weight_decay": 0.0,
        "load_col": {"inter": ["user_id", "item_id", "rating", "timestamp"]},
    }
    return run_recfound("RecFound", "tiny", config_dict=settings, baselines=["Pop"])


def test_returns_recboles_four_and_the_table(finished):
    assert set(finished) == {
        "best_valid_score",
        "valid_score_bigger",
        "best_valid_result",
        "test_result",
        "comparison",
        "run_dir",
    }
    assert [row["model"] for row in finished["comparison"]] == ["Pop", "RecFound"]
    assert finished["test_result"] == finished["comparison"][-1]["metrics"]
    assert finished["best_valid_score"] == finished["best_valid_result"]["ndcg@10"]


def test_writes_the_run_folder(finished):
    folder = Path(finished["run_dir"])
    for name in (
        "config.yaml",
        "results.json",
        "report.html",
        "README.md",
        "head.safetensors",
        "item_embeddings.safetensors",
        "adapter/adapter_model.safetensors",
        "adapter/adapter_config.json",
        "trainer_state/step-0000006/state.json",
        f"{folder.name}.log",
    ):
        assert (folder / name).is_file(), name
    results = json.loads((folder / "results.json").read_text())
    for row in results["rows"]:
        assert {"model", "metrics", "valid_metrics", "train_seconds", "eval_seconds", "trainable_parameters"} <= set(
            row
        )
    assert {task["name"] for task in results["tasks"]} == {"U2I", "I2I", "Q2I", "SR", "SA", "IP", "AVE"}
    assert results["merge"]["steps"] == [2, 4, 6]
    assert set(results["merge"]["test"]) == {"best", "last", "merged"}
    assert len(results["examples"]) == 10
    vectors = load_file(folder / "item_embeddings.safetensors")["item_embeddings"]
    torch.testing.assert_close(vectors[1:].norm(dim=-1), torch.ones(len(vectors) - 1), atol=1e-4, rtol=0)


def test_report_is_one_page_without_network(finished):
    page = (Path(finished["run_dir"]) / "report.html").read_text(encoding="utf-8")
    links = (
        page.replace("http://www.w3.org", "").replace("http://purl.org", "").replace("http://creativecommons.org", "")
    )
    assert "http://" not in links and "https://" not in links and "<script" not in page
    for heading in (
        "Comparison",
        "Loss per task",
        "Sampling ratios",
        "Router similarity",
        "Best single",
        "Ten recommend",
    ):
        assert heading in page
    assert page.count("<svg") >= 5


def test_every_trained_tensor_moved(finished):
    """An adapter or projection that silently does not learn is the classic lie of this field."""
    state = Path(finished["run_dir"]) / "trainer_state"
    before, after = (load_file(state / f"step-{step:07d}" / "trained.safetensors") for step in (0, 6))
    still = [name for name in before if torch.equal(before[name], after[name])]
    assert not still


def test_what_is_loaded_is_what_was_tested(finished):
    """Hits of the loaded model on the test part, with the run's mask, are those of the table."""
    assert _hits(load_recfound(finished["run_dir"])) == pytest.approx(finished["test_result"]["hit@10"], abs=1e-4)


def _hits(loaded):
    """The last item of each user is the test item."""
    known = loaded._users()
    histories = [[loaded.tokens[item] for item in known.histories.of(user)] for user in known.users.values()]
    histories = [history for history in histories if len(history) > 2]
    best = loaded.recommend_batch([history[:-1] for history in histories], k=10)
    hits = [history[-1] in [token for token, *_ in row] for history, row in zip(histories, best, strict=True)]
    assert len(hits) > 20
    return sum(hits) / len(hits)


@pytest.mark.parametrize(
    "control", [{"control": "random_body"}, {"control": "random_item_text"}, {"control": "small_reader"}], ids=str
)
def test_controls_are_loaded_as_they_were(small_run, control, tmp_path_factory, monkeypatch):
    """What is drawn is drawn the same again; and from another folder."""
    result = run_recfound("RecFound", "tiny", config_dict=small_run | control | {"max_steps": 2, "output_dir": "here"})
    folder = Path(result["run_dir"]).resolve()
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    torch.manual_seed(99)
    loaded = load_recfound(folder)
    assert _hits(loaded) == pytest.approx(result["test_result"]["hit@10"], abs=1e-4)
    if control["control"] != "small_reader":
        with pytest.raises(ConfigError, match="only its own items have vectors"):
            loaded.embed_items(["Heat"])


EVERY_TASK = {"U2I", "I2I", "Q2I", "SR", "SA", "IP", "AVE"}
PROBED = {"probe_args": {"interval": 1}, "scheduler_args": {"warmup": 1}}
"""Schedulers that watch losses act from the third step on."""


class Seen:
    """What a run left in its folder."""

    def __init__(self, run: dict) -> None:
        self.run, self.folder = run, Path(run["run_dir"])
        self.results = json.loads((self.folder / "results.json").read_text())
        self.history = json.loads((self.folder / "trainer_state" / "history.json").read_text())
        self.adapter = json.loads((self.folder / "adapter" / "adapter_config.json").read_text())
        self.untrained = {task["name"]: task["untrained_loss"] for task in self.results["tasks"]}
        states = sorted((self.folder / "trainer_state").glob("step-*"))
        self.before, self.after = (load_file(state / "trained.safetensors") for state in (states[0], states[-1]))

    def vectors(self) -> torch.Tensor:
        return load_file(self.folder / "item_embeddings.safetensors")["item_embeddings"]

    def parts(self) -> set[str]:
        """The first names of what is trained: backbone, item_table, user_tower."""
        return {name.partition(".")[0] for name in self.before}

    def moved(self) -> set[str]:
        return {name for name in self.before if not torch.equal(self.before[name], self.after[name])}

    def changed_from(self, other: "Seen") -> set[str]:
        """Tasks that begin with another loss."""
        assert set(self.untrained) == set(other.untrained)
        return {name for name, loss in self.untrained.items() if loss != pytest.approx(other.untrained[name], rel=1e-5)}


def see(settings: dict, **changes) -> Seen:
    return Seen(run_recfound("RecFound", "tiny", config_dict=settings | changes))


@pytest.fixture(scope="module")
def plain(small_settings, tmp_path_factory) -> Seen:
    """The run that controls are held against."""
    return see(small_settings, output_dir=str(tmp_path_factory.mktemp("plain")))


@pytest.fixture(scope="module")
def plain_untrained(small_settings, tmp_path_factory) -> Seen:
    return see(small_settings, output_dir=str(tmp_path_factory.mktemp("plain")), max_steps=0)


@pytest.mark.parametrize("form", ["positions", "prompt", "late"])
def test_text_modes_run(small_run, plain, form):
    """Histories as text are scored otherwise; a prompt is held against texts and leaves the item table alone."""
    seen = see(small_run, history=form, max_steps=2)
    assert seen.results["run"]["history_mode"] == form and plain.results["run"]["history_mode"] == "item"
    changed = seen.changed_from(plain)
    assert "U2I" in changed and not changed & {"SR", "SA", "IP", "AVE"}
    assert seen.parts() == plain.parts() - ({"item_table", "user_tower", "recent_items"} if form == "prompt" else set())
    assert {name.partition(".")[0] for name in seen.moved()} == seen.parts()


def test_the_adapter_can_be_one_lora(small_run, plain):
    seen = see(small_run, adapter="lora")
    assert plain.adapter["peft_type"] == "TMOLE" and seen.adapter["peft_type"] == "LORA"
    assert plain.results["router"] is not None and seen.results["router"] is None
    assert any("tmole" in name for name in plain.before) and not any("tmole" in name for name in seen.before)
    assert any("lora_B" in name for name in seen.moved())
    assert seen.changed_from(plain) <= {"U2I"}, (
        "no adapter changes anything before it has learned; ids of items are drawn after it"
    )


def test_without_an_adapter_the_backbone_learns_nothing(small_run, plain):
    seen = see(small_run, control="no_adapter")
    assert seen.parts() == plain.parts() - {"backbone"} and seen.moved()
    assert seen.run["comparison"][-1]["trainable_parameters"] < plain.run["comparison"][-1]["trainable_parameters"]
    for run, learned in ((seen, False), (plain, True)):
        kept = load_file(run.folder / "adapter" / "adapter_model.safetensors")
        assert any(weight.any() for name, weight in kept.items() if "lora_B" in name) == learned
    # Tasks without the item table or a reader of histories never change.
    for task in seen.results["tasks"]:
        assert (task["final_loss"] == task["untrained_loss"]) == (task["name"] != "U2I"), task["name"]


def test_schedulers_sample_and_weigh_as_they_say(small_run):
    """Proportional shares never change, S2Sched's do; CoBa samples like the first and steps otherwise."""
    runs = {name: see(small_run | PROBED, scheduler=name, max_steps=5) for name in ("proportional", "s2sched", "coba")}
    sizes = {task["name"]: task["size"] for task in runs["proportional"].results["tasks"]}
    pairs = {"U2I", "I2I", "Q2I"}
    for name, constant in (("proportional", True), ("s2sched", False), ("coba", True)):
        shares = [record["weights"] for record in runs[name].history]
        assert (shares[0] == shares[-1]) == constant, name
        for group in (pairs, EVERY_TASK - pairs):
            whole = sum(sizes[task] for task in group)
            assert {task: shares[0][task] for task in group} == pytest.approx(
                {task: sizes[task] / whole for task in group}
            )
    first, other = runs["proportional"], runs["coba"]
    assert [record["counts"] for record in first.history] == [record["counts"] for record in other.history]
    assert first.history[0]["losses"] == other.history[0]["losses"]
    assert any(not torch.equal(first.after[name], other.after[name]) for name in first.after)


def test_merging_can_be_off(small_run, plain):
    seen = see(small_run, merge_method="none")
    assert set(plain.results["merge"]["test"]) == {"best", "last", "merged"} and plain.results["merge"]["steps"] == [
        2,
        4,
    ]
    assert set(seen.results["merge"]["test"]) == {"best", "last"} and seen.results["merge"]["steps"] == []
    assert seen.results["merge"]["reason"] == "merging is off"
    assert [record["losses"] for record in seen.history] == [record["losses"] for record in plain.history]


def test_one_task_alone(small_run, plain):
    seen = see(small_run, tasks=["U2I"], max_steps=2)
    assert [set(record["losses"]) for record in seen.history] == [{"U2I"}] * 2 and set(seen.untrained) == {"U2I"}
    assert set(plain.untrained) == EVERY_TASK
    assert set(seen.run["comparison"][-1]["task_metrics"]) == {"U2I"}
    read = {name.partition(".layers.")[2][0] for name in seen.before if ".layers." in name}
    assert read == {"0", "1"}, "histories go through two layers"


@pytest.mark.parametrize(
    ("control", "changed", "same_vectors"),
    [
        ({"control": "no_body"}, {"U2I"}, True),
        ({"control": "small_reader"}, {"U2I"}, None),
        ({"control": "random_body"}, EVERY_TASK, True),
        ({"control": "random_item_text"}, {"U2I"}, False),
        ({"item_args": {"use_text": False}}, {"U2I"}, False),
    ],
    ids=["no_body", "small_reader", "random_body", "random_item_text", "without_text"],
)
def test_controls_change_what_they_control(small_run, plain, plain_untrained, control, changed, same_vectors):
    """Losses of the tasks that read it before training, and the item vectors (None: after other random draws)."""
    seen = see(small_run | control, max_steps=2)
    assert seen.changed_from(plain) == changed
    assert {name.partition(".")[0] for name in seen.moved()} >= {"backbone", "item_table"}
    has_reader = any(name.startswith("user_tower.small.") for name in seen.before)
    assert has_reader == (control.get("control") == "small_reader")
    # Without text, the collaborative factors are left.
    width = seen.before["item_table.text.weight"].shape[1]
    assert (width == 64) == ("item_args" in control)
    if same_vectors is not None:
        untrained = see(small_run | control, max_steps=0)
        assert torch.allclose(untrained.vectors(), plain_untrained.vectors(), atol=1e-5) == same_vectors


@pytest.mark.parametrize("control", [{"control": "no_body"}, {"control": "small_reader"}], ids=str)
def test_controls_of_the_reader_leave_the_backbone_out(small_run, control):
    """Without tasks that read text, nothing of the backbone is trained."""
    seen = see(small_run | control, tasks=["U2I"], max_steps=2)
    assert "backbone" not in seen.parts() and seen.moved()


def test_recboles_own_model_runs_through_the_same_call(small_run):
    keys = ("data_path", "output_dir", "show_progress", "use_gpu")
    result = run_recfound("BPR", "tiny", config_dict={key: small_run[key] for key in keys} | {"epochs": 1})
    assert result["comparison"][0]["model"] == "BPR"
    facts = json.loads((Path(result["run_dir"]) / "results.json").read_text())["run"]
    assert facts["seconds"]["training and test"] > 0


OF_LISTS = ["NDCG", "ItemCoverage", "AveragePopularity", "ShannonEntropy", "GiniIndex", "TailPercentage"]


def test_metrics_that_count_training_rows(small_run):
    """Less is better in the metric that chooses; a loaded run is scored by another way."""
    options = {"metrics": OF_LISTS, "valid_metric": "GiniIndex@10", "max_steps": 4, "eval_interval": 2}
    result = run_recfound("RecFound", "tiny", config_dict=small_run | options, baselines=["Pop"])
    pop, ours = (row["metrics"] for row in result["comparison"])
    assert pop.keys() == ours.keys() == {f"{name.lower()}@10" for name in OF_LISTS}
    assert dict(load_recfound(result["run_dir"]).evaluate().metrics) == pytest.approx(ours, abs=1e-4)
    merge = json.loads((Path(result["run_dir"]) / "results.json").read_text())["merge"]
    assert merge["valid"]["best"]["giniindex@10"] <= merge["valid"]["last"]["giniindex@10"]
    assert not result["valid_score_bigger"]


def test_bf16_runs_and_keeps_vectors_in_full(small_run):
    """bf16 weights under autocast, as on processors with AMX and on GPUs; scores stay float32."""
    result = run_recfound(
        "RecFound",
        "tiny",
        config_dict=small_run | {"precision": "bf16", "batch_args": {"cache_chunk": 1}, "max_steps": 2},
    )
    vectors = load_file(Path(result["run_dir"]) / "item_embeddings.safetensors")["item_embeddings"]
    assert vectors.dtype == torch.float32 and not torch.equal(vectors, vectors.bfloat16().float())
    assert json.loads((Path(result["run_dir"]) / "results.json").read_text())["run"]["precision"] == "bf16"


def test_progress_bars_show_the_losses_of_the_tasks(small_run, capfd):
    run_recfound(
        "RecFound", "tiny", config_dict=small_run | {"show_progress": True, "tasks": ["U2I", "SR"], "max_steps": 3}
    )
    told = capfd.readouterr().err
    assert re.search(r"RecFound: +\d+%.*U2I \d+\.\d+.*SR \d+\.\d+", told) and "testing tasks" in told


def test_tensorboard_has_losses_and_validations(small_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.iterdir())
    settings = small_run | {"tasks": ["U2I", "SR"], "max_steps": 4, "baselines": ["Pop"]}
    run = run_recfound("RecFound", "tiny", config_dict=settings)
    assert set(tmp_path.iterdir()) - before == {tmp_path / "runs"}, "nothing beside the run folder"
    events = EventAccumulator(str(Path(run["run_dir"]) / "tensorboard" / "RecFound"))
    events.Reload()
    assert {"Loss/U2I", "Loss/SR", "Vaild_score"} <= set(events.Tags()["scalars"])
    assert [event.step for event in events.Scalars("Vaild_score")] == [2, 4]


def test_the_settings_of_a_run_repeat_it(small_run, tmp_path):
    """`config.yaml` of the run folder is a settings file like any other."""
    first = run_recfound("RecFound", "tiny", config_dict=small_run | {"max_steps": 2, "task_test_examples": 0})
    path = Path(first["run_dir"]) / "config.yaml"
    again = run_recfound(config_file_list=[path], config_dict={"output_dir": str(tmp_path / "again")})
    assert again["run_dir"] != first["run_dir"] and again["test_result"] == first["test_result"]
    assert yaml.safe_load((Path(again["run_dir"]) / "config.yaml").read_text())["batch_args"] == small_run["batch_args"]


def test_without_a_mask_the_table_ranks_old_items_and_recommendations_leave_them_out(small_run):
    """As the documentation says: only `repeatable` recommends what a user has had."""
    for changes, old in (({"mask_history": False}, False), ({"repeatable": True}, True)):
        settings = small_run | {"only_tasks": ["U2I"], "task_test_examples": 0, "save_histories": True} | changes
        result = run_recfound("RecFound", "tiny", config_dict=settings)
        loaded = load_recfound(result["run_dir"])
        assert loaded.evaluate().metrics == pytest.approx(result["test_result"], abs=1e-4)
        found = {token for token, *_ in loaded.recommend(["50", "7"], k=10_000)}
        assert found & {"50", "7"} == ({"50", "7"} if old else set())


def test_no_baseline_starts_after_its_part_of_the_time(small_run, tmp_path, monkeypatch, capsys):
    """A model that learns in its constructor cannot be stopped: its successors are not begun, and the table says so."""
    monkeypatch.setattr("recbole_recfound.system.run.BASELINE_SHARE", 0.0)
    own = {"output_dir": str(tmp_path), "time_budget": 600, "max_steps": 1, "blend": ["BPR"], "task_test_examples": 0}
    result = run_recfound("RecFound", "tiny", config_dict=small_run | own, baselines=["Pop", "BPR"])
    assert [row["model"] for row in result["comparison"]] == ["RecFound"]
    said = capsys.readouterr().out
    assert "not run: Pop, BPR: the 0 s of the time budget" in said
    assert "training (at least 65% of it for U2I" in said, "the plan says it before anything is trained"
    facts = json.loads((Path(result["run_dir"]) / "results.json").read_text())["run"]
    assert facts["baselines_not_run"] == "Pop, BPR"


def test_items_without_a_file_of_texts_are_no_item_text(small_run, tmp_path):
    path = Path(small_run["data_path"])
    shutil.copytree(path / "tiny", tmp_path / "data" / "tiny", ignore=shutil.ignore_patterns("*.item"))
    own = {"output_dir": str(tmp_path), "max_steps": 1, "task_test_examples": 0, "tasks": ["U2I"]}
    own["data_path"] = str(tmp_path / "data")
    result = run_recfound("RecFound", "tiny", config_dict=small_run | own, baselines=[])
    assert [row["model"] for row in result["comparison"]] == ["RecFound, no item text"]


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"control": "no_body"}, "RecFound, control: no_body"),
        ({"adapter": "lora", "control": "random_body"}, "RecFound, adapter: lora, control: random_body"),
        ({"item_args": {"use_text": False}}, "RecFound, no item text"),
    ],
    ids=str,
)
def test_a_control_does_not_carry_the_name_of_the_model(small_run, tmp_path, changes, name):
    own = {"output_dir": str(tmp_path), "max_steps": 1, "task_test_examples": 0, "tasks": ["U2I"]}
    result = run_recfound("RecFound", "tiny", config_dict=small_run | own | changes, baselines=[])
    assert [row["model"] for row in result["comparison"]] == [name]
    assert f'class="ours"><td>{name}<' in (Path(result["run_dir"]) / "report.html").read_text()


@pytest.mark.parametrize("items", [3, 5])
def test_a_catalogue_smaller_than_the_lists_of_the_report(small_run, write_dataset, tmp_path, items):
    rows = [
        [f"u{user}", f"i{(user + step % 4) % items}", 4, 100 * user + step] for user in range(9) for step in range(5)
    ]
    header = ["user_id:token", "item_id:token", "rating:float", "timestamp:float"]
    titles = [["item_id:token", "movie_title:token_seq"], *([f"i{item}", f"Film {item}"] for item in range(items))]
    own = {"data_path": str(write_dataset("few", inter=[header, *rows], item=titles)), "topk": [2], "max_steps": 2}
    own |= {"output_dir": str(tmp_path), "tasks": ["U2I"], "valid_metric": "NDCG@2", "item_args": {"factors": 1}}
    own |= {"repeatable": items == 3}
    result = run_recfound("RecFound", "few", config_dict=small_run | own, baselines=["Pop"])
    results = json.loads((Path(result["run_dir"]) / "results.json").read_text())
    for shown in results["examples"]:
        assert shown["recommended"] and set(shown["recommended"]) <= {f"Film {item}" for item in range(items)}
        if items == 5:
            assert not set(shown["recommended"]) & {*shown["history"]} - {shown["held_out"]}, "the history is masked"


def test_no_user_of_the_validation_part_has_a_history(small_run, write_dataset, tmp_path):
    """U2I's probe is then made of examples that are set aside, as those of the other tasks."""
    rows = [[f"u{user}", f"i{(3 * user + step) % 11}", 4, 100 * user + step] for user in range(24) for step in range(4)]
    header = ["user_id:token", "item_id:token", "rating:float", "timestamp:float"]
    titles = [["item_id:token", "movie_title:token_seq"], *([f"i{item}", f"Film {item}"] for item in range(11))]
    own = {"data_path": str(write_dataset("late", inter=[header, *rows], item=titles)), "tasks": ["U2I"]}
    own |= {"eval_args": {"split": {"RS": [0.75, 0.125, 0.125]}, "order": "TO", "group_by": "none", "mode": "full"}}
    own |= {"output_dir": str(tmp_path), "max_steps": 2, "item_args": {"factors": 2}}
    result = run_recfound("RecFound", "late", config_dict=small_run | own, baselines=["Pop"])
    assert [row["model"] for row in result["comparison"]] == ["Pop", "RecFound"]
