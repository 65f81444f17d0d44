"""A finished run with baselines, for servers in processes of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from recbole_recfound import run_recfound
from tests.settings import SERVED

HOSTILE = {
    "1": "<img src=x onerror=window.marked=1> Toy",
    "2": "<script>window.marked=2</script> Eye",
    "4": '"><svg onload=window.marked=3> Shorty',
}
"""Titles that would run in a page that takes them for a part of itself; each ends in a word of its own."""


@pytest.fixture(scope="session")
def page_path(tiny_path, tmp_path_factory) -> Path:
    """`data_path` with the data set `page`: `tiny` with hostile titles."""
    folder = tmp_path_factory.mktemp("hostile") / "page"
    folder.mkdir()
    for suffix in ("inter", "user", "item"):
        lines = (tiny_path / "tiny" / f"tiny.{suffix}").read_text().splitlines()
        if suffix == "item":
            title = [name.partition(":")[0] for name in lines[0].split("\t")].index("movie_title")
            rows = [line.split("\t") for line in lines[1:]]
            for row in rows:
                row[title] = HOSTILE.get(row[0], row[title])
            lines[1:] = ["\t".join(row) for row in rows]
        (folder / f"page.{suffix}").write_text("\n".join(lines) + "\n")
    return folder.parent


@pytest.fixture(scope="session")
def page_run(page_path, tiny_backbone, tmp_path_factory) -> str:
    """A run of a few steps beside a baseline of each sort: of counts, of a row, of a sequence, of users' ids."""
    settings = SERVED | {
        "data_path": str(page_path),
        "backbone": str(tiny_backbone),
        "output_dir": str(tmp_path_factory.mktemp("served")),
        "baselines": ["Pop", "EASE", "SASRec", "BPR"],
        "baseline_args": {name: {"epochs": 1} for name in ("SASRec", "BPR")},
    }
    return run_recfound("RecFound", "page", config_dict=settings)["run_dir"]
