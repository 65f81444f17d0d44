"""IP on a data set small enough to check by hand."""

from tests.data.task.hand_made import build, training_data


def test_ip_describes_an_item_by_its_fields():
    task, _ = build("IP", training_data())
    assert len(task) == 5
    words = "Alien was made. " * 40
    plot = " ".join(words.split()[:40]).rstrip(".")
    assert task.example(0).slots == {"item": ("title", 0)}
    assert task.example(0).answer == f"Year: 1979. Plot: {plot}."
    assert task.example(2).answer == "Year: 1995."


def test_items_without_a_title_are_no_examples():
    source = training_data()
    del source.catalogue.values[2]["title"]
    assert 2 not in build("IP", source)[0].rows
