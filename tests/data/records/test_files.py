"""Tasks from files: their parts, their examples, and that no test question is trained on."""

import json

import numpy as np
import pytest

from recbole_recfound.data.records.excluded import question_texts
from recbole_recfound.data.records.files import TaskFiles, add_record_tasks, paths_in
from recbole_recfound.data.task import TASKS, GenerativeExample, HeldOut, RecordPairExample, build_tasks
from recbole_recfound.errors import ConfigError, DataError
from tests.data.task.hand_made import examples_of, task_settings, training_data


def _file(tmp_path, name, *rows):
    path = tmp_path / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def _pm(prompt, answer="no", task="Product_Matching"):
    return {"text": [prompt, answer], "task": task}


def _pair(query, positives, negatives, task="Emb_item"):
    return {
        "query": ["Q:", query],
        "pos": [["I:", text] for text in positives],
        "neg": [["I:", text] for text in negatives],
        "task": task,
    }


def test_a_list_trains_and_parts_are_parts(tmp_path):
    path = _file(tmp_path, "a.jsonl", _pm("a"), _pm("b", "yes"))
    for given in ([path], {"train": [path]}, {"train": path}):
        files = TaskFiles.open(given, False)
        assert files.tasks("train") == ["PM"] and not files.tasks("test") and paths_in(given) == [path]
    assert TaskFiles.open([], False).tasks("train") == []


def test_what_the_test_asks_is_never_trained_on(tmp_path):
    train = _file(tmp_path, "train.jsonl", _pm("a"), _pm("b", "yes"), _pm("c"), _pm("d"))
    valid = _file(tmp_path, "valid.jsonl", _pm("b"), _pm("c"), _pm("e"))
    test = _file(tmp_path, "test.jsonl", _pm("c"))
    files = TaskFiles.open({"train": [train], "valid": [valid], "test": [test]}, False)
    asked = {
        part: [files.example(part, "PM", index).slots["prompt"][1] for index in range(files.count(part, "PM"))]
        for part in ("train", "valid", "test")
    }
    assert asked == {"train": ["a", "d"], "valid": ["b", "e"], "test": ["c"]}
    assert (
        f"{train}: 2 records excluded: their questions are in validation or test files (2 verbatim, 0 in another "
        "spelling)" in files.notes()
    )


@pytest.mark.parametrize(
    "spelling",
    ["what is it", "What  is it?", "WHAT IS IT", "What\u00a0is it…", "What is\u200b it?", "\ufeffWhat is it?"],
)
def test_another_spelling_of_a_test_question_is_never_trained_on(tmp_path, spelling):
    train = _file(
        tmp_path, "train.jsonl", _pm(spelling), _pm("b", "yes"), _pm("What is this?"), _pair(spelling, "x", "y")
    )
    test = _file(tmp_path, "test.jsonl", _pm("What is it?"), _pair("What is it?", "a", "b"))
    files = TaskFiles.open({"train": train, "test": test}, False)
    asked = [files.example("train", "PM", index).slots["prompt"][1] for index in range(files.count("train", "PM"))]
    assert asked == ["b", "What is this?"] and not files.count("train", "I2I")
    assert [note for note in files.notes() if "2 records excluded" in note and "(0 verbatim, 2 in another" in note]


def test_the_same_question_of_another_task_is_trained_on(tmp_path):
    train = _file(tmp_path, "train.jsonl", _pm("a", "x", task="Query_Rewriting"), _pair("a", "x", "y"))
    test = _file(tmp_path, "test.jsonl", _pm("a"), _pair("a", "x", "y", task="Emb_query"))
    assert TaskFiles.open({"train": train, "test": test}, False).tasks("train") == ["I2I", "QR"]


def test_problems_of_all_files_are_reported_together(tmp_path):
    bad = _file(tmp_path, "bad.jsonl", _pm("a"), *[{"task": "Product_Matching"}] * 120)
    test = _file(tmp_path, "test.jsonl", _pm("b", "maybe", task="Attribute_Value_Extraction"), [1])
    empty = _file(tmp_path, "empty.jsonl")
    given = {"train": [bad, empty, str(tmp_path / "absent.jsonl")], "test": [test]}
    with pytest.raises(DataError) as refused:
        TaskFiles.open(given, False)
    lines = str(refused.value).splitlines()
    assert lines[0] == "124 problems in the data"
    assert lines[-1] == "skip_bad_rows: true leaves out lines that are not records"
    assert f"  {test}:2: got a list, expected a record: a JSON object" in lines
    assert f"  {test}:1: key 'text': no answer of AVE: 'maybe'" in lines
    assert len([line for line in lines if line.startswith(f"  {bad}:")]) == 101
    assert f"  {bad}: 20 more broken lines, 120 in all" in lines
    assert f"  {empty}:1: no record in this file" in lines
    assert any("absent.jsonl cannot be read" in line for line in lines)
    with pytest.raises(DataError, match="3 problems in the data") as refused:
        TaskFiles.open(given, True)
    assert "skip_bad_rows" not in str(refused.value)


def test_records_as_the_scripts_of_recfound_write_them(tmp_path):
    source = _file(
        tmp_path,
        "source-key.jsonl",
        {
            "text": ["Do they describe the same product? A / B", "yes"],
            "task": "Product_Matching",
            "id": 1,
            "source": "x",
        },
        _pair("red shoe", ["Shoe, red"], ["Hat"]) | {"source": "shoes"},
    )
    plain = _file(
        tmp_path,
        "plain-strings.jsonl",
        {"query": "red shoe", "pos": ["Shoe, red"], "neg": ["Hat"], "task": "Emb_query", "id": 7},
    )
    array = tmp_path / "array.json"
    array.write_text(json.dumps([_pair("blue shoe", ["Shoe, blue"], ["Hat"])], indent=4))
    files = TaskFiles.open([source, plain, str(array)], False)
    assert files.notes() == [f"{source}: keys that records do not have were ignored: source (2)"]
    assert files.example("train", "Q2I", 0).query == ("", "red shoe")
    assert [files.example("train", "I2I", index).query for index in (0, 1)] == [("Q:", "red shoe"), ("Q:", "blue shoe")]


def test_what_is_refused(tmp_path):
    path = _file(tmp_path, "a.jsonl", _pm("a"), _pm("b"), _pm("c", "maybe", task="Attribute_Value_Extraction"))
    with pytest.raises(ConfigError, match="task_files: unknown part 'tests', use train, valid, test"):
        TaskFiles.open({"tests": [path]}, False)
    with pytest.raises(ConfigError, match="specified more than once"):
        TaskFiles.open({"train": [path], "test": [path]}, False)
    with pytest.raises(DataError, match=r"a.jsonl:3: key 'text': no answer of AVE: 'maybe'"):
        TaskFiles.open({"test": [path]}, False)


def test_files_join_what_the_atomic_files_give(tmp_path):
    source, options = training_data(), task_settings(hard_negatives=1)
    built, _ = build_tasks(["U2I", "I2I", "IP"], source, options)
    pairs = _file(tmp_path, "b.jsonl", _pair("x", ["y", "z"], ["n", "m"]))
    answers = _file(tmp_path, "a.jsonl", _pm("a"), _pm("b", "yes"), _pm("c", task="item_profile"))
    tasks = add_record_tasks(built, TaskFiles.open([pairs, answers], False), 5, options)
    assert list(tasks) == ["U2I", "I2I", "PM", "IP"]
    mixed, alone = tasks["I2I"], tasks["PM"]
    assert len(mixed) == len(built["I2I"]) + 2 and mixed.example(0) == built["I2I"].example(0)
    added = [mixed.example(len(built["I2I"]) + place) for place in (0, 1)]
    assert [example.positive for example in added] == [("I:", "y"), ("I:", "z")]
    assert all(
        isinstance(e, RecordPairExample) and len(e.negatives) == 1 and e.known == (("I:", "y"), ("I:", "z"))
        for e in added
    )
    assert added == [mixed.example(len(built["I2I"]) + place) for place in (0, 1)]
    assert alone.choices == ("no", "yes") and alone.example(1) == GenerativeExample({"prompt": ("prompt", "b")}, "yes")
    assert len(tasks["IP"]) == len(built["IP"]) + 1 and not tasks["IP"].choices
    assert "a.jsonl" in tasks["IP"].note


def test_free_text_is_never_held_to_the_answers_of_the_training_file(tmp_path):
    path = _file(
        tmp_path,
        "a.jsonl",
        *[_pm(str(n), "long text", task="Query_Rewriting") for n in range(3)],
        _pm("x"),
        _pm("y", "yes"),
    )
    tasks = add_record_tasks({}, TaskFiles.open([path], False), 0, task_settings())
    assert tasks["QR"].choices == () and tasks["PM"].choices == ("no", "yes")


def test_records_leave_a_task_its_own_test(tmp_path):
    built, _ = build_tasks(
        ["SR"], training_data([[0, 1, 2, 3], [1, 2, 4, 0]]), task_settings(candidates=3, test_examples=5)
    )
    path = _file(tmp_path, "a.jsonl", *[_pm(str(n), "X", task="Sequential_Recommendation") for n in range(2)])
    mixed = add_record_tasks(built, TaskFiles.open([path], False), 0, built["SR"].settings)["SR"]
    held_out = HeldOut(training_data([[0, 1, 2, 3], [1, 2, 4, 0]]), np.array([3, 7]))
    assert mixed.test_examples(held_out) == built["SR"].test_examples(held_out) != ([], 0)


def test_one_record_is_too_few(tmp_path):
    with pytest.raises(ConfigError, match="PM has one training record"):
        add_record_tasks({}, TaskFiles.open([_file(tmp_path, "a.jsonl", _pm("a"))], False), 0, task_settings())


def test_yes_and_no_have_one_spelling_and_letters_have_no_gaps(tmp_path):
    answers = _file(
        tmp_path,
        "a.jsonl",
        _pm("a", "Yes."),
        _pm("b", "YES"),
        *(_pm(n, n, task="Sequential_Recommendation") for n in "BDB"),
    )
    tasks = add_record_tasks({}, TaskFiles.open([answers], False), 0, task_settings())
    assert {tasks["PM"].example(index).answer for index in range(2)} == {"yes"} and tasks["PM"].choices == ("no", "yes")
    assert tasks["SR"].choices == ("A", "B", "C", "D")


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("part", ["valid", "test"])
def test_questions_of_held_out_files_are_in_no_example_of_the_data_set(tmp_path, part, train):
    """Queries, items and prompts, in any spelling and with any instruction."""
    source = training_data([[0, 1, 2], [0, 1, 2], [1, 2, 3]], queries=[("red film", 0), ("blue film", 1), ("film", 2)])
    built, _ = build_tasks(
        ["Q2I", "I2I", "U2I", "IP", "SR"], source, task_settings(False, history_titles=3, candidates=2)
    )
    prompt = question_texts(built["IP"].example(1), built["IP"].prompt, source.catalogue)[0]
    sentence = source.catalogue.sentence_of(0)
    asked = [
        _pair("Red  film!", ["x"], ["y"], "Emb_query"),
        _pair(sentence, ["x"], ["y"]),
        _pair("Alien\nAliens", ["x"], ["y"], "Emb_user"),
        _pm(prompt, "x", TASKS["IP"].record),
    ]
    given = {part: _file(tmp_path, "held.jsonl", *asked)}
    if train:
        given["train"] = _file(tmp_path, "train.jsonl", _pair("green film", ["x"], ["y"], "Emb_query"))
    files = TaskFiles.open(given, False)
    tasks = add_record_tasks(built, files, 1, built["IP"].settings)
    assert set(tasks) == set(built) and set(files.excluded) == {"Q2I", "I2I", "U2I", "IP"}
    for name, task in tasks.items():
        assert len(task) == len(built[name]) - files.excluded.get(name, 0) + (train and name == "Q2I")
    queries = {name: [each.query for each in examples_of(tasks[name])] for name in ("Q2I", "I2I", "U2I")}
    assert "red film" not in queries["Q2I"] and "blue film" in queries["Q2I"]
    assert 0 not in queries["I2I"] and (0, 1) not in queries["U2I"] and len(queries["U2I"]) > 0
    note = "Q2I: 1 examples of the data set excluded: their questions are in validation or test files"
    assert note in files.notes()


def test_a_task_of_which_every_question_is_held_out_is_left_out(tmp_path):
    source = training_data(queries=[("red film", 0), ("blue film", 1)])
    built, _ = build_tasks(["Q2I", "U2I"], source, task_settings())
    rows = [_pair(query, ["x"], ["y"], "Emb_query") for query in ("red film", "blue film")]
    files = TaskFiles.open({"test": _file(tmp_path, "test.jsonl", *rows)}, False)
    tasks = add_record_tasks(built, files, 1, task_settings())
    assert set(tasks) == {"U2I"} and "Q2I" in files.untrained(tasks)


@pytest.mark.parametrize("train", [True, False])
def test_one_remaining_example_is_trained_beside_records_alone(tmp_path, train):
    source = training_data(queries=[("red film", 0), ("blue film", 1)])
    built, _ = build_tasks(["Q2I", "U2I"], source, task_settings())
    given = {"test": _file(tmp_path, "test.jsonl", _pair("red film", ["x"], ["y"], "Emb_query"))}
    if train:
        given["train"] = _file(tmp_path, "train.jsonl", _pair("green film", ["x"], ["y"], "Emb_query"))
    files = TaskFiles.open(given, False)
    tasks = add_record_tasks(built, files, 1, task_settings())
    assert files.excluded == {"Q2I": 1} and set(tasks) == ({"U2I", "Q2I"} if train else {"U2I"})
    assert not train or len(tasks["Q2I"]) == 2
