"""Files and folders are written whole, and those that cannot be written are refused in one line."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from types import SimpleNamespace

import pytest

from recbole_recfound.errors import ConfigError
from recbole_recfound.runtime.file_digests import check_digests, whole_folder
from recbole_recfound.runtime.whole_file import check_file, check_folder, whole_file
from recbole_recfound.serving.export.formats import FORMATS, export_run

NOT_WRITABLE = "/proc/self"
"""No user, the superuser included, can create a file there."""


def test_what_can_be_written_is_left_as_it_is(tmp_path):
    (tmp_path / "file").write_text("text")
    check_file(tmp_path / "file", "out")
    check_file(tmp_path / "new", "out")
    check_folder(tmp_path / "a" / "b", "out")
    assert [path.name for path in tmp_path.iterdir()] == ["file"] and (tmp_path / "file").read_text() == "text"


def test_refusals(tmp_path):
    (tmp_path / "file").write_text("text")
    for check, path, words in (
        (check_file, tmp_path, f"key: {tmp_path} is a folder, expected a file"),
        (check_file, tmp_path / "a" / "file", f"key: there is no folder {tmp_path / 'a'}"),
        (check_file, Path(NOT_WRITABLE) / "x", f"key: {NOT_WRITABLE} cannot be written: "),
        (check_folder, Path(NOT_WRITABLE) / "x" / "y", f"key: {NOT_WRITABLE} cannot be written: "),
        (check_folder, tmp_path / "file" / "below", f"key: {tmp_path / 'file'} cannot be written: "),
    ):
        with pytest.raises(ConfigError) as refused:
            check(path, "key")
        assert str(refused.value).startswith(words) and "\n" not in str(refused.value)


def test_two_writers_of_one_file_do_not_mix(tmp_path):
    path = tmp_path / "best [1].csv"
    with whole_file(path) as first:
        with whole_file(path) as second:
            first.write_text("1" * 9)
            second.write_text("2")
        assert path.read_text() == "2"
    assert path.read_text() == "1" * 9 and list(tmp_path.iterdir()) == [path]


def test_two_writers_of_one_folder_do_not_mix(tmp_path):
    path = tmp_path / "run"
    for _ in range(2):  # new, and in the place of another
        with whole_folder(path) as first:
            (first / "first").write_text("1")
            with whole_folder(path) as second:
                (second / "second").write_text("2")
        check_digests(path)
        assert (path / "first").is_file() and not (path / "second").exists()
    assert list(tmp_path.iterdir()) == [path]


def test_folders_that_are_replaced_at_the_same_time(tmp_path):
    path, ready = tmp_path / "backbone", Barrier(4)

    def write(value):
        for _ in range(20):
            ready.wait(60)
            with whole_folder(path) as folder:
                (folder / "value").write_text(value)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, "1234"))
    check_digests(path)
    assert list(tmp_path.iterdir()) == [path]


def test_two_exports_to_one_folder_do_not_mix(tmp_path, monkeypatch):
    saved = SimpleNamespace(
        settings={"control": None, "model": "M", "dataset": "d"},
        folder=tmp_path / "run",
        backbone=SimpleNamespace(name="b"),
    )
    run = SimpleNamespace(saved=saved, model=SimpleNamespace(parts=SimpleNamespace(tasks={"U2I": None})))
    out, started = tmp_path / "out", []

    def fill(run, task, folder):
        (folder / str(len(started))).write_text("")
        started.append(folder)
        if len(started) == 1:
            export_run(run, task, "peft", out)
        return "text"

    monkeypatch.setitem(FORMATS, "peft", fill)
    with pytest.raises(ConfigError, match="out was written by another process meanwhile"):
        export_run(run, "U2I", "peft", out)
    assert {path.name for path in out.iterdir()} == {"1", "README.md"} and list(tmp_path.iterdir()) == [out]


def test_what_killed_processes_left_is_removed_when_nothing_has_changed_it_for_a_day(tmp_path):
    old, young, folder, other = (tmp_path / f"{name}.partial" for name in ("a.1-0", "a.1-1", "a.1-2", "b.1-0"))
    folder.mkdir()
    for path in (old, young, other, folder / "file"):
        path.write_text("")
    for path in (old, other, folder / "file", folder):
        os.utime(path, (1e9, 1e9))
    with whole_file(tmp_path / "a") as partial:
        partial.write_text("whole")
    assert sorted(tmp_path.iterdir()) == sorted([tmp_path / "a", young, other])
