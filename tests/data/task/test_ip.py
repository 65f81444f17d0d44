"""IP on a data set small enough to check by hand."""

import numpy as np
import pytest

from recbole_recfound.data.task import TrainingData
from recbole_recfound.data.text import Catalogue
from tests.data.task.hand_made import build, examples_of, task_of, training_data


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


@pytest.mark.parametrize("name", ["IP", "AVE", "Q2I"])
def test_a_title_of_the_test_is_trained_in_no_spelling(name):
    titles = [f"Film {n}" if n < 40 else f"FILM  {n - 40}" for n in range(80)]
    values = [{"title": title, "year": str(1900 + n)} for n, title in enumerate(titles)]
    films = Catalogue([f"i{n}" for n in range(80)], ["title", "year"], values, 80, [{}] * 80)
    source = TrainingData(films, ["u"], np.array([0, 2]), np.array([0, 1]), None, [], 7, np.arange(80))
    task = task_of(name, source, test_examples=4)
    tested = {row % 40 for row in (task.kept if name == "Q2I" else task.test_rows)}
    trained = {row % 40 for row in (task.trained if name == "Q2I" else task.rows)}
    assert len(tested) >= 2 and trained == set(range(40)) - tested
    assert len(examples_of(task)) == len(task) == 2 * len(trained)
