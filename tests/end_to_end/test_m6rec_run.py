"""M6-Rec from one command to recommendations."""

import json
import shutil
import time
from pathlib import Path

import pytest
from recbole.utils import case_study

from recbole_recfound import load_recfound, run_recfound
from recbole_recfound.edge.teacher import check_teacher
from recbole_recfound.errors import ConfigError, DataError
from recbole_recfound.evaluation.report.table import format_table
from recbole_recfound.study.seeds import summarise
from recbole_recfound.trainer.m6rec import M6RecTrainer
from tests.settings import clicks_of


@pytest.fixture(scope="module")
def settings(tiny_path, tiny_backbone):
    return clicks_of(tiny_path, tiny_backbone)


@pytest.fixture(scope="module")
def finished(settings, tmp_path_factory):
    """A finished run with a baseline."""
    folder = tmp_path_factory.mktemp("m6rec")
    options = {"output_dir": str(folder), "baseline_args": {"DeepFM": {"epochs": 2}}}
    return run_recfound("M6Rec", "tiny", config_dict=settings | options, baselines=["DeepFM"])


def test_one_table_with_the_baselines(finished):
    results = json.loads((Path(finished["run_dir"]) / "results.json").read_text())
    assert (results["system"], [row["model"] for row in results["rows"]]) == ("M6Rec", ["DeepFM", "M6Rec"])
    row = results["rows"][1]
    assert all(set(each["metrics"]) == {"auc", "logloss", "gauc"} for each in results["rows"])
    assert 0 < row["metrics"]["auc"] < 1
    assert row["task"] == "ctr" and row["best_step"] in [point["step"] for point in row["curve"]]
    best = max(row["curve"], key=lambda point: point["score"])
    assert row["valid_metrics"]["auc"] == finished["best_valid_score"] == best["score"]
    assert finished["test_result"] == row["metrics"]
    assert row["curve"][0] == {"step": 0, "loss": None, "score": row["curve"][0]["score"]}
    assert row["start"]["targets"] > 0
    assert row["segments"]["hits"] > row["segments"]["misses"] > 0
    for name in ("report.html", "README.md", "config.yaml", "ctr.options.safetensors", "m6rec.json"):
        assert (Path(finished["run_dir"]) / name).stat().st_size > 0


def test_the_same_seed_gives_the_same_numbers(finished, settings, tmp_path):
    again = run_recfound("M6Rec", "tiny", config_dict=settings | {"output_dir": str(tmp_path)}, saved=False)
    assert again["test_result"] == finished["test_result"]
    left = {path.name for path in Path(again["run_dir"]).iterdir()}
    assert not left & {"ctr.options.safetensors", "m6rec.json"}


def test_a_loaded_run_scores_as_the_run_did(finished):
    model = load_recfound(finished["run_dir"])
    assert dict(model.evaluate().metrics) == pytest.approx(finished["test_result"])
    user = model.known_users()[0]
    best = model.recommend(user=user, k=5)
    assert len(best) == 5 and [score for *_, score in best] == sorted((score for *_, score in best), reverse=True)
    assert model.score([user], [best[0][0]])[0] == pytest.approx(best[0][2], abs=1e-5)
    with pytest.raises(ConfigError, match="full_sort_topk: .* not NegSampleEvalDataLoader .*recommend"):
        case_study.full_sort_topk([1], model.model, model.splits.test_data, k=3)
    history = [token for token, *_ in best[:2]]
    of_history = model.recommend(history=history, k=3)
    assert len(of_history) == 3 and not {token for token, *_ in of_history} & set(history)


def test_texts_of_training_that_had_no_time_are_encoded_when_they_are_read(settings, tmp_path, monkeypatch, capsys):
    """With the numbers of a run that had the time; validation and test have their texts in any case."""
    options = settings | {"output_dir": str(tmp_path), "time_budget": 1000, "epochs": 1}
    whole = run_recfound("M6Rec", "tiny", config_dict=options)
    assert "note: the texts took" not in capsys.readouterr().out
    monkeypatch.setattr("recbole_recfound.trainer.m6rec.TEXT_SHARE", 0.0)
    cut = run_recfound("M6Rec", "tiny", config_dict=options)
    assert "of training are left and encoded when a step reads them" in capsys.readouterr().out
    assert cut["test_result"] == pytest.approx(whole["test_result"], abs=1e-3)
    steps = [
        json.loads((Path(run["run_dir"]) / "results.json").read_text())["rows"][0]["steps"] for run in (cut, whole)
    ]
    assert steps[0] == steps[1] > 0


def test_online_statistics_are_a_row_of_their_own(settings, tmp_path):
    options = {"output_dir": str(tmp_path), "text_args": {"statistics": "online"}, "epochs": 1}
    options["baseline_args"] = {"DeepFM": {"epochs": 1}}
    found = run_recfound("M6Rec", "tiny", config_dict=settings | options, baselines=["DeepFM"], saved=False)
    rows = found["comparison"]
    assert [row["model"] for row in rows] == ["DeepFM", "M6Rec, online statistics"]
    table = format_table(rows).splitlines()
    assert all(f"{name} (online statistics)" in table[0] for name in rows[1]["metrics"])
    assert table[2].count("*") == table[3].count("*") == 3, "each is the best of its own columns"
    difference = [row["metrics"] for row in summarise({1: rows, 2: rows})][1]
    assert all("difference" not in found for found in difference.values())
    with pytest.raises(ConfigError, match="count held-out rows, which a student must not learn from"):
        check_teacher(found["run_dir"])
    with pytest.raises(ConfigError, match="blend: .* reads held-out rows, which the baselines do not get"):
        run_recfound("M6Rec", "tiny", config_dict=settings | options | {"blend": ["DeepFM"]}, baselines=["DeepFM"])


def test_the_time_budget_is_kept(settings, tmp_path):
    options = {"output_dir": str(tmp_path), "time_budget": 1, "epochs": 1000, "stopping_step": 1000}
    found = run_recfound("M6Rec", "tiny", config_dict=settings | options, saved=False)
    assert "not converged" in found["comparison"][0]["note"]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"late_args": {"joint_layers": 3}}, "joint_layers: got 3"),
        ({"late_args": {"states": "first"}}, "states"),
        ({"late_args": {"cache_file": "/proc/self/states"}}, "cache_file: /proc/self cannot be written"),
        ({"late_args": {"cache_file": "/proc"}}, "cache_file: /proc is a folder"),
        ({"zeroshot_args": {"scores": ["mean", "mean"]}}, "scores: got"),
        ({"generate_args": {"from_items": ["design", "design"]}}, "from_items: got"),
        ({"option_args": {"prompts": 1}}, "prompts"),
        ({"text_args": {"category": "colour"}}, "category: got colour"),
        ({"text_args": {"user_fields": ["height"]}}, "user_fields: got height"),
        ({"text_args": {"statistics": "future"}}, "statistics"),
        ({"threshold": None}, "no column 'label'"),
        ({"threshold": {"rating": 6}}, "got only rows with the label 0 in the training part"),
        ({"eval_args": {"mode": "full"}, "metrics": ["NDCG"], "valid_metric": "NDCG@10"}, "mode: labeled"),
        ({"item_args": {"read_file": False}}, "texts are all"),
        ({"m6rec_task": ["chat"]}, "chat"),
        ({"baselines": ["BPR"]}, "BPR ranks items"),
        (
            {"blend": ["DeepFM"], "baselines": ["DeepFM"], "m6rec_task": ["generate"], "eval_args": {"mode": "full"}},
            "the first m6rec_task is generate, expected ctr or retrieval",
        ),
        ({"blend": ["DeepFM"]}, "blend: DeepFM is not among the baselines"),
    ],
)
def test_refusals_before_anything_is_trained(settings, tmp_path, wrong, words):
    options = settings | {"output_dir": str(tmp_path / "runs")} | wrong
    if wrong.get("eval_args"):
        options["eval_args"] = settings["eval_args"] | wrong["eval_args"]
    with pytest.raises((ConfigError, DataError), match=words):
        run_recfound("M6Rec", "tiny", config_dict=options)
    assert not (tmp_path / "runs").exists()


def test_states_of_another_backbone_are_refused_before_anything_is_trained(settings, tmp_path):
    options = {"output_dir": str(tmp_path / "runs"), "epochs": 1}
    options["late_args"] = {"cache_file": str(tmp_path / "states")}
    run_recfound("M6Rec", "tiny", config_dict=settings | options)
    assert len(list((tmp_path / "runs").iterdir())) == 1
    other = options | {"text_args": {"max_tokens": 20}}
    with pytest.raises(DataError, match="states of another backbone, or of other"):
        run_recfound("M6Rec", "tiny", config_dict=settings | other, baselines=["DeepFM"])
    assert not [path for path in (tmp_path / "runs").glob("*/rows/*")][1:], "no baseline was trained"


def test_cut_texts_are_said_before_anything_is_trained(settings, tmp_path, capsys):
    options = {"output_dir": str(tmp_path / "runs"), "epochs": 1, "text_args": {"max_tokens": 20}}
    run_recfound("M6Rec", "tiny", config_dict=settings | options, saved=False)
    said = capsys.readouterr().out
    note = said.index("texts of items and users are longer than 20 tokens and lose their end")
    assert note < said.index("M6Rec ...")


def test_files_that_have_changed_since_the_training_are_named(finished, tiny_path, tmp_path, capsys):
    """The same users, items and rows with other labels, and with columns less to read."""
    data = shutil.copytree(tiny_path, tmp_path / "data")
    assert dict(load_recfound(finished["run_dir"], data_path=str(data)).evaluate().metrics) == pytest.approx(
        finished["test_result"]
    )
    assert "changed since" not in capsys.readouterr().err
    file = data / "tiny" / "tiny.inter"
    head, *rows = (line.split("\t") for line in file.read_text().splitlines())
    place = head.index("rating:float")
    for row in rows:
        row[place] = str(6 - float(row[place]))
    file.write_text("".join("\t".join(row) + "\n" for row in [head, *rows]))
    other = load_recfound(finished["run_dir"], data_path=str(data)).evaluate().metrics
    assert dict(other) != pytest.approx(finished["test_result"])
    note = f"note: tiny.inter changed since {Path(finished['run_dir']).name} was trained: scores and metrics are of the"
    assert note in capsys.readouterr().err
    (data / "tiny" / "tiny.user").unlink()
    with pytest.raises(DataError, match="does not fit the texts of tiny as they are now .*: use the files it was"):
        load_recfound(finished["run_dir"], data_path=str(data))
    assert "note: tiny.inter, tiny.user (missing) changed since" in capsys.readouterr().err


@pytest.mark.filterwarnings("error:Already found a `peft_config`", "error:`is_gradient_checkpointing`")
def test_an_ablation_is_one_run(settings, tmp_path, capsys):
    """A row for each way of tuning; sharing a backbone with others changes no number, and nothing warns of PEFT."""
    tunings = ["fine-tuning", "lora", "adapter", "prompt", "option", "option-adapter"]
    options = settings | {"output_dir": str(tmp_path), "epochs": 1}
    found = run_recfound("M6Rec", "tiny", config_dict=options | {"option_args": {"tuning": tunings}})
    rows = {row["model"]: row for row in found["comparison"]}
    assert list(rows) == [f"M6Rec {tuning}" for tuning in tunings]
    served = load_recfound(found["run_dir"])  # the first one
    assert dict(served.evaluate().metrics) == pytest.approx(found["test_result"])
    counts = {tuning: rows[f"M6Rec {tuning}"]["trainable_parameters"] for tuning in tunings}
    assert counts["prompt"] == counts["option"] < counts["adapter"] < counts["option-adapter"] < counts["fine-tuning"]
    assert 0 <= counts["lora"] - counts["option-adapter"] < 448  # parameters of rank 1
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("trained: ")]
    share = {part.split(" of the parameters of M6Rec ")[1]: part.split("%")[0] for part in line[9:].split(", ")}
    whole = json.loads((Path(found["run_dir"]) / "results.json").read_text())["run"]["share_of_trained_parameters"]
    assert share == {tuning: f"{100 * count * whole / counts['fine-tuning']:.2f}" for tuning, count in counts.items()}
    for tuning in ("option", "lora", "fine-tuning"):
        alone = run_recfound("M6Rec", "tiny", config_dict=options | {"option_args": {"tuning": [tuning]}})
        assert alone["test_result"] == pytest.approx(rows[f"M6Rec {tuning}"]["metrics"], abs=1e-6)
        assert dict(load_recfound(alone["run_dir"]).evaluate().metrics) == pytest.approx(alone["test_result"])


def test_texts_take_nothing_of_the_time_of_the_training_that_encodes_them(settings, tmp_path, monkeypatch):
    """The first of two ways of tuning encodes the texts of both."""
    encode, begin, encoded, shares = M6RecTrainer._encode, M6RecTrainer._begin, [], []

    def _encode(self, *arguments):
        encode(self, *arguments)
        encoded.append(time.monotonic())

    def _begin(self, *arguments):
        assert self.began >= encoded[-1]
        shares.append((self.deadline - self.began) / (self.plan.deadline() - self.began))
        begin(self, *arguments)

    monkeypatch.setattr(M6RecTrainer, "_encode", _encode)
    monkeypatch.setattr(M6RecTrainer, "_begin", _begin)
    options = settings | {"output_dir": str(tmp_path), "epochs": 1, "time_budget": 600}
    run_recfound("M6Rec", "tiny", config_dict=options | {"option_args": {"tuning": ["option", "prompt"]}}, saved=False)
    assert shares == pytest.approx([1 / 2, 1])


def test_another_backbone_is_refused(finished, tmp_path):
    from tests.tiny_backbone import write_tiny_backbone

    other = write_tiny_backbone(tmp_path / "other", seed=1)
    with pytest.raises(DataError, match="another backbone"):
        load_recfound(finished["run_dir"], backbone=str(other))
