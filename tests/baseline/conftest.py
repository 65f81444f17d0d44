"""Data that RecBole's models need beside interactions."""

import shutil

import pytest


@pytest.fixture
def knowledge_path(tiny_path, tmp_path):
    """Folder of the tiny data set with a knowledge graph: an entity for each item, all liked by the same one."""
    shutil.copytree(tiny_path / "tiny", tmp_path / "data" / "tiny")
    rows = [line.split("\t") for line in (tmp_path / "data/tiny/tiny.inter").read_text().splitlines()[1:]]
    items = sorted({row[1] for row in rows})
    tables = {
        "kg": [("head_id:token", "relation_id:token", "tail_id:token"), *((f"e{i}", "like", "e0") for i in items)],
        "link": [("item_id:token", "entity_id:token"), *((i, f"e{i}") for i in items)],
    }
    for suffix, lines in tables.items():
        (tmp_path / "data/tiny" / f"tiny.{suffix}").write_text("\n".join(map("\t".join, lines)) + "\n")
    return tmp_path / "data"
