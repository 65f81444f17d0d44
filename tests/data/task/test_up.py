"""UP on a data set small enough to check by hand."""

from dataclasses import replace

from tests.data.task.hand_made import build, training_data


def test_up_describes_a_user_by_the_profile():
    source = replace(training_data(), profiles={"u0": {"age": "24", "job_title": "writer"}, "u2": {"age": "9"}})
    task, _ = build("UP", source, history_titles=2)
    assert [task.example(index).slots["history"] for index in range(2)] == [("titles", (1, 2)), ("titles", (4,))]
    assert task.example(0).answer == "Age: 24. Job title: writer."


def test_up_without_profiles():
    assert build("UP") == (None, "no .user file with text columns")
