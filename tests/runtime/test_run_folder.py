"""Run folders: one writer, damaged ones are of no consequence to others, rows that changed are computed again."""

import errno
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from recbole_recfound.errors import ConfigError
from recbole_recfound.runtime.lock import FolderInUse, FolderLock
from recbole_recfound.runtime.run_folder import RunFolder
from tests.damage import DAMAGES, damage

HOLD = """
import sys, time
from pathlib import Path
from recbole_recfound.runtime.lock import FolderLock
lock = FolderLock(Path(sys.argv[1]), {})
print("held", flush=True)
time.sleep(600)
"""


def _open(tmp_path, resume="auto", **settings):
    return RunFolder.open("M", "d", {"seed": 1, **settings}, str(tmp_path / "runs"), resume)


def test_another_process_is_kept_out_until_it_dies(tmp_path, checkout):
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(
            FolderInUse, match=rf"is being written by process {other.pid} on host {socket.gethostname()}"
        ):
            FolderLock(tmp_path, {})
    finally:
        other.kill()
        other.wait()
        other.stdout.close()
    FolderLock(tmp_path, {}).release()


def test_a_live_run_is_not_resumed(tmp_path, capsys):
    live = _open(tmp_path)
    with pytest.raises(ConfigError, match=rf"is being written by process {os.getpid()} on host"):
        _open(tmp_path, str(live.path))
    with _open(tmp_path) as other:
        assert other.path != live.path
    assert f"note: resume: not this run: {live.path} is being written" in capsys.readouterr().out
    live.close()
    with _open(tmp_path, str(live.path)) as again:
        assert again.path == live.path


@pytest.mark.parametrize("resume", ["auto", "named"])
def test_what_changes_no_result_makes_no_other_run(tmp_path, resume):
    """Neither where a run lies nor the file of its states of texts."""
    with _open(tmp_path, late_args={"targets": 8, "cache_file": "one"}, device="cpu") as folder:
        path = folder.path
    for other in ({"targets": 8, "cache_file": "two"}, {"targets": 8}):
        with _open(tmp_path, resume if resume == "auto" else str(path), late_args=other, device="cuda") as again:
            assert again.path == path
    with _open(tmp_path, late_args={"targets": 9, "cache_file": "one"}) as another:
        assert another.path != path


def test_a_changed_file_is_named(tmp_path):
    """The settings are the same."""
    files = {"d.inter": "1" * 16, "d.item": "2e34567890123456"}
    with _open(tmp_path, data_files=files) as folder:
        path = folder.path
    with pytest.raises(ConfigError, match=f"resume: d.inter changed since the run {path} began: restore it, or start"):
        _open(tmp_path, str(path), data_files=files | {"d.inter": "3" * 16})
    with pytest.raises(ConfigError, match=r"resume: d.item, d.user changed since"):
        _open(tmp_path, str(path), data_files={"d.inter": "1" * 16, "d.user": "4" * 16})
    with pytest.raises(ConfigError, match="is not a run with these settings"):
        _open(tmp_path, str(path), data_files=files | {"d.inter": "3" * 16}, epochs=2)


@pytest.mark.parametrize("place", ["trainer_state", "tensorboard", "rows", "rows/Pop.json", "config.yaml"])
def test_a_broken_twin_stops_no_other_run(tmp_path, capsys, place):
    """A file instead of a folder, or the reverse, in the newest run of the same settings."""
    good = _open(tmp_path, "")
    good.close()
    broken = _open(tmp_path, "")
    broken.close()
    path = broken.path / place
    if path.is_dir():
        path.rmdir()
    elif path.is_file():
        path.unlink()
    if place.endswith((".json", ".yaml")):
        path.mkdir()
    else:
        path.write_text("")
    os.utime(broken.path, (2e9, 2e9))
    with _open(tmp_path) as found:
        assert found.path == good.path
    assert f"note: resume: not this run: output_dir: {broken.path} cannot be written" in capsys.readouterr().out
    with pytest.raises(ConfigError, match=f"{broken.path} cannot be written"):
        _open(tmp_path, str(broken.path))


def test_a_full_disk_does_not_keep_the_lock(tmp_path, monkeypatch):
    lock = FolderLock(tmp_path, {})
    full = tmp_path / "owner.json.1-0.partial"
    full.symlink_to("/dev/full")
    with monkeypatch.context() as patch:
        patch.setattr("recbole_recfound.runtime.whole_file.partial_beside", lambda path: full)
        lock.release()
    FolderLock(tmp_path, {}).release()


def test_without_locks_the_record_decides(tmp_path, monkeypatch):
    def unsupported(*arguments, **options):
        raise NotImplementedError

    monkeypatch.setattr("recbole_recfound.runtime.lock.FileLock.acquire", unsupported)
    for owner, free in (
        ({"host": "elsewhere", "pid": 1}, False),
        ({"host": socket.gethostname(), "pid": os.getpid()}, False),
        ({"host": socket.gethostname(), "pid": 2**22 + 1}, True),
        ({}, True),
    ):
        (tmp_path / "owner.json").write_text(json.dumps(owner))
        if free:
            FolderLock(tmp_path, {})
        else:
            with pytest.raises(FolderInUse, match=f"process {owner['pid']} on host {owner['host']}"):
                FolderLock(tmp_path, {})


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("name", ["config.yaml", "owner.json"])
def test_one_damaged_file_does_not_hide_a_run(tmp_path, name, how):
    with _open(tmp_path) as folder:
        path = folder.path
    damage(path / name, how)
    with _open(tmp_path) as resumed:
        assert resumed.path == path, "the other file says which run it is"
    with _open(tmp_path, str(path)) as resumed:
        assert resumed.path == path


def test_a_damaged_run_does_not_stop_others(tmp_path):
    with _open(tmp_path) as folder:
        path = folder.path
    for name in ("config.yaml", "owner.json"):
        (path / name).write_bytes(b"\x00\xff: [")
    with _open(tmp_path) as other:
        assert other.path != path
    with pytest.raises(ConfigError, match="is not a run with these settings"):
        _open(tmp_path, str(path))


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_row_is_computed_again(tmp_path, how, capsys):
    with _open(tmp_path) as folder:
        values = {"model": "A", "metrics": {"recall@10": 0.25}}
        assert folder.row("A", lambda: values) == values
        assert folder.row("A", lambda: pytest.fail("computed twice")) == values
        damage(folder.rows / "A.json", how)
        assert folder.row("A", lambda: {**values, "note": "again"})["note"] == "again"
        assert "note: row A: rows/A.json: " in capsys.readouterr().out


def test_a_row_whose_file_changed_is_computed_again(tmp_path):
    from recbole_recfound.runtime.file_digests import file_digest

    with _open(tmp_path) as folder:
        weights = folder.path / "weights"
        weights.write_text("1")
        folder.row("A", lambda: {"files": {"weights": file_digest(weights)}})
        weights.write_text("2")
        assert folder.row("A", lambda: {"note": "again"}) == {"note": "again"}


def test_leftovers_are_removed(tmp_path):
    with _open(tmp_path) as folder:
        (folder.path / "base.partial").mkdir()
        (folder.rows / "A.json.partial").write_text("{")
        (folder.path / "baselines" / "Pop.1-0.partial").mkdir(parents=True)
    with _open(tmp_path) as again:
        assert again.path == folder.path and not list(again.path.rglob("*.partial"))


@pytest.mark.parametrize("how", ["a file is in its place", "read-only"])
def test_a_folder_that_cannot_be_made_is_one_line(tmp_path, monkeypatch, how):
    if how == "read-only":

        def refuse(path, *_, **__):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

        monkeypatch.setattr(Path, "mkdir", refuse)
    else:
        (tmp_path / "runs").write_text("")
    with pytest.raises(ConfigError, match="output_dir: ") as caught:
        _open(tmp_path)
    assert "\n" not in str(caught.value)
