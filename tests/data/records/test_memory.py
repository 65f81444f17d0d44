"""What is kept in memory does not grow with the number of records."""

import json
import tracemalloc

import numpy as np
import pytest

from recbole_recfound.cli import validate_data
from recbole_recfound.data import MultiTaskLoader
from recbole_recfound.data.records.files import TaskFiles, add_record_tasks
from recbole_recfound.data.task_tests import collect_tests
from tests.data.task.hand_made import task_settings

FEW, MANY = 1_200, 5_000
MOST_GROWTH = 15_000
"""Bytes: four for each record that one of three files has more, less than any number kept of it would take."""


class Steps:
    """A scheduler that gives one task all of a step."""

    def allocate(self, batch_sizes):
        return {"PM": batch_sizes["generative"]}


@pytest.fixture
def files(tmp_path):
    """Files of so many short records, by part."""

    def write(count):
        paths = {}
        for part in ("train", "valid", "test"):
            rows = (
                {"text": [f"Same? {part} {n}", "no" if n % 3 else "yes"], "task": "Product_Matching"}
                for n in range(count)
            )
            path = tmp_path / f"{part}{count}.jsonl"
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
            paths[part] = [str(path)]
        return paths

    return write


def _growth(work, few, many):
    """Bytes that more records keep, and bytes by which they raise the peak."""
    figures = []
    work(few)  # what the first call imports and caches counts for none
    for given in (few, many):
        tracemalloc.start()
        kept = work(given)
        figures.append(np.array(tracemalloc.get_traced_memory()))
        tracemalloc.stop()
        del kept
    return (figures[1] - figures[0]).tolist()


def test_training_and_test_draw_from_any_number_of_records(files):
    def work(given):
        opened = TaskFiles.open(given, False)
        tasks = add_record_tasks({}, opened, 0, task_settings())
        loaders = [
            MultiTaskLoader(tasks, None, Steps(), {"generative": 16}, 0.05, 20, 0, balanced=names)
            for names in ((), ("PM",))
        ]
        for loader in loaders:
            drawn = [index for _ in range(20) for index, _ in loader.cursors["PM"].take(16)]
            assert len(loader.probes["PM"]) == 20 and len(set(drawn)) == 320
        return opened, loaders, collect_tests(tasks, None, opened, 20, 0)

    kept, peak = _growth(work, files(FEW), files(MANY))
    assert kept < MOST_GROWTH and peak < MOST_GROWTH, (kept, peak)


def test_validate_data_checks_any_number_of_records(files, monkeypatch, capsys):
    def tokenizer(texts, **options):
        return {"input_ids": [text.split() for text in texts]}

    monkeypatch.setattr("recbole_recfound.backbone.load.load_tokenizer", lambda name: tokenizer)

    def work(given):
        assert validate_data.command([*given["train"], *given["test"]]) == 0
        told = capsys.readouterr().out
        assert "0 records repeat the question of an earlier one; 0 when" in told
        assert "0 questions in both; 0 when" in told

    _, peak = _growth(work, files(FEW), files(MANY))
    assert peak < MOST_GROWTH, peak
