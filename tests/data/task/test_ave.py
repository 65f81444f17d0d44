"""AVE on a data set small enough to check by hand."""

import json

from tests.data.task.hand_made import build, training_data


def test_ave_answers_with_attributes_and_their_source():
    source = training_data()
    source.catalogue.values[3]["title"] = "Heat wave of 2009"
    task, _ = build("AVE", source)
    assert task.example(2).slots == {"text": ("text", "title: Heat\ndetails: 1995")}
    assert json.loads(task.example(2).answer) == [{"attribute": "year", "value": "1995", "source": "details"}]
    assert task.example(3).slots == {"text": ("text", "title: Heat wave of 2009")}
    assert json.loads(task.example(3).answer) == [{"attribute": "year", "value": "2009", "source": "title"}]


def test_items_without_a_title_are_no_examples():
    source = training_data()
    del source.catalogue.values[2]["title"]
    assert 2 not in build("AVE", source)[0].rows
