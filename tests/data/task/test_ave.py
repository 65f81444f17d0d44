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


def test_a_value_is_found_in_a_text_by_whole_words():
    source = training_data()
    source.catalogue.values[0] = {
        "title": "Toy Story 1995, 3.5 or 35 inch",
        "size": "5",
        "width": "3.5",
        "line": "toy STORY",
        "form": "35-inch",
    }
    example = build("AVE", source)[0].example(0)
    assert example.slots["text"][1].endswith("details: 5 35-inch")
    assert [(each["attribute"], each["source"]) for each in json.loads(example.answer)] == [
        ("size", "details"),
        ("width", "title"),
        ("line", "title"),
        ("form", "details"),
    ]


def test_a_value_of_a_script_without_blanks_is_found_in_the_title():
    source = training_data()
    source.catalogue.values[0] = {"title": "索尼 蓝牙耳机 黑色", "colour": "黑色", "brand": "索尼", "kind": "白色"}
    example = build("AVE", source)[0].example(0)
    sources = {each["attribute"]: each["source"] for each in json.loads(example.answer)}
    assert sources == {"colour": "title", "brand": "title", "kind": "details"}


def test_columns_have_other_names_than_title_and_unnamed_values():
    source = training_data()
    source.catalogue.long_values[2] = {"details": "a film about two men", "Title": "the second one"}
    example = build("AVE", source)[0].example(2)
    lines = ["title: Heat", "details: a film about two men", "Title 2: the second one", "details 2: 1995"]
    assert example.slots["text"][1].split("\n") == lines
    assert json.loads(example.answer) == [{"attribute": "year", "value": "1995", "source": "details 2"}]


def test_items_without_a_title_are_no_examples():
    source = training_data()
    del source.catalogue.values[2]["title"]
    assert 2 not in build("AVE", source)[0].rows
