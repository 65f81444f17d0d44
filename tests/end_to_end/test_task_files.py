"""Whole runs with JSON-lines files: beside atomic files, and alone."""

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file

from recbole_recfound.cli import main
from recbole_recfound.errors import ConfigError, DataError
from recbole_recfound.quick_start import run_recfound
from tests.interrupted import interrupted_after
from tests.small_model import build_small


@pytest.fixture
def files(tmp_path):
    """Records of product matching and of queries, with validation and test files, and one bad line."""

    def write(name, rows, more=""):
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows) + more)
        return str(path)

    def match(name, count):
        rows = [
            {"text": [f"Same? {name} {n}", "no" if n % 3 else "yes"], "task": "Product_Matching"} for n in range(count)
        ]
        pairs = [
            {
                "query": ["Find:", f"{name} {n}"],
                "pos": [["", f"item {n % 3}"]],
                "neg": [["", "other"]],
                "task": "Emb_query",
            }
            for n in range(count)
        ]
        return rows + pairs

    return {
        "train": [write("train", match("train", 12) + match("test", 1), more="{\n")],
        "valid": [write("valid", match("valid", 4))],
        "test": [write("test", match("test", 5))],
    }


def _results(result):
    return json.loads((Path(result["run_dir"]) / "results.json").read_text())


def test_files_beside_a_data_set(small_run, files):
    settings = small_run | {
        "tasks": ["U2I", "Q2I", "IP"],
        "task_files": files,
        "skip_bad_rows": True,
        "balanced_tasks": ["PM"],
    }
    result = run_recfound("RecFound", "tiny", config_dict=settings | {"baselines": ["Pop"]})
    results = _results(result)
    tasks = {task["name"]: task for task in results["tasks"]}
    assert set(tasks) == {"U2I", "Q2I", "PM", "IP"}
    assert tasks["PM"]["size"] == 12 and tasks["PM"]["seen"] > 0 and set(tasks["U2I"]["test"]["metrics"]) == {"mrr@20"}
    assert set(results["left_out"]) == {"QR", "PRP", "AP", "AG"}
    assert (
        set(tasks["PM"]["test"]["metrics"]) == {"f1_yes", "f1_yes_argmax"}
        and tasks["PM"]["test"]["source"] == "test files"
    )
    assert "mrr@20" in tasks["Q2I"]["test"]["metrics"] and tasks["IP"]["test"]["source"] == "held-out rows"
    assert (
        results["rows"][-1]["task_metrics"]["PM"] == tasks["PM"]["test"]["metrics"]
        and "ndcg@10" in result["test_result"]
    )
    assert any("2 records excluded" in note for note in results["task_files"])
    assert any("train.jsonl:27: not JSON" in note for note in results["task_files"])
    page = (Path(result["run_dir"]) / "report.html").read_text()
    assert "Test of the tasks" in page and "f1_yes" in page and "train.jsonl:27" in page


def test_files_alone(small_run, files):
    settings = small_run | {"task_files": files, "skip_bad_rows": True, "eval_interval": 2, "max_steps": 4}
    settings.pop("load_col")
    result = run_recfound("RecFound", "none", config_dict=settings)
    results = _results(result)
    assert {task["name"] for task in results["tasks"]} == {"Q2I", "PM"} and result["test_result"] == {}
    assert results["merge"]["kept"] in ("last", "merged") and result["best_valid_result"]["probe_loss"] > 0
    folder = Path(result["run_dir"])
    assert (folder / "report.html").is_file() and not (folder / "item_embeddings.safetensors").exists()
    before, after = (load_file(folder / f"trainer_state/step-{step:07d}/trained.safetensors") for step in (0, 4))
    assert any(not before[name].equal(after[name]) for name in before)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"task_files": {"train": ["absent.jsonl"]}}, DataError, "task_files: absent.jsonl cannot be read"),
        ({"task_files": []}, ConfigError, "dataset: none has no atomic files"),
        ({"task_files": {"test": ["a.jsonl"]}}, ConfigError, "there is no training file"),
        ({"baselines": ["Pop"]}, ConfigError, "dataset: none has no interactions"),
        ({"test_args": {"bert_score_model": "absent"}}, ConfigError, "bert_score_model: absent"),
        (
            {"task_files": {"train": 3}},
            ConfigError,
            "task_files: got .*, expected a list of text or a mapping|task_files: got .*: expected files, or {train",
        ),
        (
            {"task_files": [["a.jsonl"]]},
            ConfigError,
            "task_files: got .*, expected a list of text or a mapping|task_files: got .*: expected files, or {train",
        ),
        (
            {"task_files": [""]},
            ConfigError,
            "task_files: got .*, expected a list of text or a mapping|task_files: got .*: expected files, or {train",
        ),
        (
            {"task_files": {"train": ["a.jsonl"], "test": ["b.jsonl"]}},
            ConfigError,
            "every question of the training files is also in",
        ),
        (
            {"task_files": ["c.jsonl"], "max_prompt_tokens": 5000},
            ConfigError,
            "max_prompt_tokens: got 5000, expected at most 2048",
        ),
        (
            {"task_files": ["c.jsonl"], "prompts": {"SR": "{{ history }}"}},
            ConfigError,
            "records bring their own prompts",
        ),
    ],
)
def test_what_is_refused_at_once(small_run, changes, error, message):
    line = {"text": ["Same?", "yes"], "task": "Product_Matching"}
    for name in ("a.jsonl", "b.jsonl"):
        Path(name).write_text(json.dumps(line) + "\n")
    Path("c.jsonl").write_text("".join(json.dumps(line | {"text": [f"Same {n}?", "yes"]}) + "\n" for n in range(3)))
    with pytest.raises(error, match=message):
        run_recfound("RecFound", "none", config_dict=small_run | {"task_files": ["a.jsonl"]} | changes)


def test_tasks_that_only_test_files_have_are_told(small_run, files, capsys):
    more = [{"text": [f"How was it? {n}", str(1 + n % 2)], "task": "Sentiment_Analysis"} for n in range(3)]
    Path("more.jsonl").write_text("".join(json.dumps(row) + "\n" for row in more))
    given = {"train": files["train"], "test": ["more.jsonl"]}
    result = run_recfound(
        "RecFound", "none", config_dict=small_run | {"task_files": given, "skip_bad_rows": True, "max_steps": 1}
    )
    assert _results(result)["left_out"] == {
        "SA": "no training record of it besides those of validation or test files: neither trained nor tested"
    }
    assert "left out: SA: no training record of it" in capsys.readouterr().out


def test_a_task_of_the_data_set_is_tested_on_a_file_without_training_records(small_run):
    rows = [{"text": [f"How was it? {n}", str(1 + n % 2)], "task": "Sentiment_Analysis"} for n in range(3)]
    rows += [{"query": ["Find", f"film {n}"], "pos": [["", f"Heat {n}"]], "neg": [["", "Toys"]]} for n in range(3)]
    rows[3:] = [{**row, "task": "Emb_query", "id": n} for n, row in enumerate(rows[3:])]
    Path("test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = {"task_files": {"test": ["test.jsonl"]}, "tasks": ["U2I", "Q2I", "SA"]}
    tasks = {
        task["name"]: task["test"]
        for task in _results(run_recfound("RecFound", "tiny", None, small_run | given))["tasks"]
    }
    assert tasks["SA"]["source"] == tasks["Q2I"]["source"] == "test files"
    assert tasks["SA"]["available"] == tasks["Q2I"]["available"] == 3 and tasks["U2I"]["source"] == "held-out rows"


def test_few_candidates_are_told(small_run, files, capsys):
    """Three items and one text are fewer than 19 candidates; their number does not depend on the number of tests."""
    for asked in (1, 4):
        settings = small_run | {"task_files": files, "skip_bad_rows": True, "max_steps": 1, "task_test_examples": asked}
        result = run_recfound("RecFound", "none", config_dict=settings)
        assert {task["name"]: task["test"].get("candidates") for task in _results(result)["tasks"]} == {
            "Q2I": 4,
            "PM": None,
        }
        assert "among 4 candidates or more instead of 20" in capsys.readouterr().out


def test_other_data_of_the_same_size_are_no_run_to_go_on_with(small_run, files):
    settings = small_run | {
        "task_files": files,
        "skip_bad_rows": True,
        "max_steps": 3,
        "eval_interval": 1,
        "resume": "auto",
    }
    with interrupted_after(2):
        run_recfound("RecFound", "none", config_dict=settings)
    (unfinished,) = Path(settings["output_dir"]).iterdir()
    train = Path(files["train"][0])
    train.write_text(train.read_text().replace("Same?", "Some?"))
    assert run_recfound("RecFound", "none", config_dict=settings)["run_dir"] != str(unfinished)
    train.write_text(train.read_text().replace("Some?", "Same?"))
    assert run_recfound("RecFound", "none", config_dict=settings)["run_dir"] == str(unfinished)


def test_records_of_titles_make_no_ranking_by_titles(small_run):
    rows = [{"text": [f"Next after {n}?", "A"], "task": "Sequential_Recommendation"} for n in range(3)]
    Path("titles.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = small_run | {
        "tasks": ["U2I"],
        "task_args": {"SR": {"form": "title"}},
        "test_args": {"rank_titles": 5},
        "task_files": ["titles.jsonl"],
    }
    with pytest.raises(ConfigError, match="test_args: rank_titles needs the tasks U2I and SR of the data set"):
        run_recfound("RecFound", "tiny", config_dict=settings)


def test_records_of_users_wait_beside_sequences(small_run):
    """U2I as sequences and as records: both are trained, records in contrastive batches."""
    rows = [
        {"query": ["Who:", f"user {n}"], "pos": [["", f"item {n}"]], "neg": [], "task": "Emb_user"} for n in range(200)
    ]
    Path("users.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    small = build_small(
        small_run, tasks=["U2I"], task_files=["users.jsonl"], batch_args={"contrastive": 3, "embedding": 2}
    )
    seen = {"SequenceBatch": [], "PairBatch": []}
    for _ in range(8):
        for part in small.loader.next_batch().parts:
            seen[type(part).__name__].append(len(part))
    assert seen["SequenceBatch"] and seen["PairBatch"] and all(size >= 3 for size in seen["PairBatch"])
    waiting = len(small.loader.waiting["U2I records"])
    assert small.loader.trained("U2I") == sum(map(sum, seen.values())) == small.loader.cursors["U2I"].drawn - waiting


def test_titles_are_ranked_in_a_row_of_their_own(small_run):
    settings = small_run | {
        "tasks": ["U2I", "SR"],
        "task_args": {"SR": {"form": "title"}},
        "test_args": {"rank_titles": 3},
        "max_steps": 2,
    }
    result = run_recfound("RecFound", "tiny", config_dict=settings)
    titles, own = result["comparison"]
    assert titles["model"] == "RecFound, titles ranked" and own["model"] == "RecFound"
    assert titles["metrics"].keys() == own["metrics"].keys() and titles["task_metrics"] == {} != own["task_metrics"]
    assert titles["note"].startswith("the 3 best items") and titles["valid_metrics"] == own["valid_metrics"]
    # The three best change places among themselves: who is hit by ten stays, and a place gains or loses two at most.
    assert own["metrics"]["hit@10"] == titles["metrics"]["hit@10"] > 0
    assert abs(titles["metrics"]["mrr@10"] - own["metrics"]["mrr@10"]) <= own["metrics"]["hit@10"] * (1 - 1 / 3)


def test_validate_data(files, tiny_backbone, capsys):
    options = ["--backbone", str(tiny_backbone)]
    assert main(["validate-data", files["test"][0], *options, files["valid"][0]]) == 0
    told = capsys.readouterr().out
    assert (
        "test.jsonl: 10 records, PM 5, Q2I 5" in told
        and "PM prompt, tokens: 50%: 12, 90%" in told
        and "0 questions in both" in told
    )
    assert main(["validate-data", files["train"][0], files["test"][0], *options]) == 2
    told = capsys.readouterr()
    assert told.err.strip().endswith(
        "train.jsonl:27: not JSON: Expecting property name enclosed in double quotes (character 3 of the record)"
    )
    assert (
        "1 bad lines" in told.out and "2 questions in both; 2 when case, blanks" in told.out and "(a leak" in told.out
    )
    Path("odd.jsonl").write_text(
        json.dumps({"text": ["What?", "perhaps"], "task": "Attribute_Value_Extraction"}) + "\n"
    )
    assert main(["validate-data", "odd.jsonl", *options]) == 0
    assert (
        "1 answers do not fit their task (rejected in validation and test files), the first: odd.jsonl:1"
        in capsys.readouterr().out
    )
    Path("empty.jsonl").write_text("\n")
    Path("special.jsonl").write_text(json.dumps({"text": ["<|im_end|>", "yes"], "task": "Product_Matching"}) + "\n")
    assert main(["validate-data", "special.jsonl", *options]) == 0
    assert "PM prompt, tokens: 50%: 10," in capsys.readouterr().out, (
        "as many as training reads: data are never special tokens"
    )
    for argv, message in (
        [[], "name at least one file"],
        [["a", "--skip=1"], "skip: unknown option"],
        [["absent", *options], "absent cannot be read"],
        [["a", "b", "a"], "a is specified more than once"],
        [["empty.jsonl", *options], "empty.jsonl:1: no record in this file"],
        [
            ["special.jsonl", "--skip_bad_rows", *options],
            "skip_bad_rows: unknown option of validate-data, which has backbone; bad lines are all listed without it",
        ],
    ):
        assert main(["validate-data", *argv]) == 2
        assert message in capsys.readouterr().err, argv


def test_a_run_without_u2i_ranks_nothing(small_run, files):
    """One task of many, on a data set: no ranking, no user tower that counts as trained, no base for IAK."""
    settings = small_run | {
        "tasks": ["U2I", "SR", "IP"],
        "task_files": files,
        "skip_bad_rows": True,
        "only_tasks": ["SR"],
    }
    result = run_recfound("RecFound", "tiny", config_dict=settings)
    results, folder = _results(result), Path(result["run_dir"])
    assert [task["name"] for task in results["tasks"]] == ["SR"] and result["test_result"] == {}
    assert set(result["comparison"][-1]["task_metrics"]) == {"SR"} and results["left_out"].keys() == {
        "QR",
        "PRP",
        "AP",
        "AG",
    }
    trained = load_file(folder / "trainer_state" / "step-0000004" / "trained.safetensors")
    assert (
        trained
        and all(name.startswith("backbone.") for name in trained)
        and not (folder / "item_embeddings.safetensors").exists()
    )
    with pytest.raises(ConfigError, match="was trained without U2I on a data set and ranks nothing"):
        run_recfound("IAK", "tiny", config_dict={**small_run, "base_checkpoint": str(folder), "domain": ["gender"]})
    pairs = run_recfound("RecFound", "tiny", config_dict=settings | {"only_tasks": ["Q2I"], "tasks": ["Q2I"]})
    assert set(pairs["comparison"][-1]["task_metrics"]) == {"Q2I"}
    for changes, message in (
        (
            {"only_tasks": ["AG"]},
            "only_tasks: AG is not among the tasks of data set and files: U2I, Q2I, SR, PM, IP",
        ),
        ({"baselines": ["Pop"]}, "baselines: nothing is ranked without U2I"),
        ({"control": "random_body"}, "control: random_body is one of rankings"),
        ({"control": "no_adapter"}, "control: no_adapter leaves nothing to train"),
        ({"max_steps": None}, "max_steps: without a ranking there is no early stopping"),
        (
            {"merge_args": {"sparsify": "random"}, "merge_method": "ties"},
            "merge_args: sparsify is for linear and slerp",
        ),
        ({"test_args": {"rank_titles": 2}}, "test_args: rank_titles needs"),
        ({"task_test_examples": {"XY": 2}}, "task_test_examples: unknown task 'XY'"),
        ({"task_test_examples": {"SR": -2}}, "expected a whole number or a mapping of whole numbers, at least 0"),
    ):
        with pytest.raises(ConfigError, match=message):
            run_recfound("RecFound", "tiny", config_dict=settings | changes)


def test_the_untrained_model_is_tested(small_run):
    result = run_recfound("RecFound", "tiny", config_dict=small_run | {"tasks": ["U2I", "SR"], "max_steps": 0})
    results = _results(result)
    assert results["run"]["steps"] == 0 and all(task["seen"] == 0 for task in results["tasks"])
    assert all(task["final_loss"] == task["untrained_loss"] for task in results["tasks"])
    assert "ndcg@10" in result["test_result"] and set(result["comparison"][-1]["task_metrics"]) == {"U2I", "SR"}
