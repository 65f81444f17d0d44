"""Files and folders that cannot be written are refused in one line."""

from pathlib import Path

import pytest

from recbole_recfound.errors import ConfigError
from recbole_recfound.runtime.whole_file import check_file, check_folder

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
