"""When the repairs are made, and that they reach no further than RecBole."""

import importlib
import subprocess
import sys
import warnings

import pytest
import recbole
import torch

from recbole_recfound import compat
from recbole_recfound.compat.repairs import PLACES, Place, _rewriting


def _run(code: str, cwd) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_place_is_found():
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="recbole not repaired")
        for module in sorted({place.module for place in PLACES}):
            importlib.reload(importlib.import_module(module)) if module.endswith("collector") else importlib.import_module(module)


def test_a_place_that_is_gone_is_named():
    module = importlib.import_module("recbole.utils.utils")
    with pytest.warns(UserWarning, match="recbole not repaired at recbole.utils.utils.ensure_dir.*instead of 1"):
        with _rewriting([Place(module.__name__, "ensure_dir", "no such text", "")], module):
            pass
    with pytest.warns(UserWarning, match="recbole not repaired at recbole.utils.utils.no_such_function"):
        with _rewriting([Place(module.__name__, "no_such_function", "", "")], module):
            pass


def test_another_version_is_left_alone(monkeypatch):
    monkeypatch.setattr(recbole, "__version__", "1.3.0")
    with pytest.warns(UserWarning, match="recbole 1.3.0 found.*nothing was patched"):
        assert compat.install() is False


def test_installing_twice_changes_nothing():
    before = list(sys.meta_path)
    assert compat.install() is True
    assert sys.meta_path == before


def test_the_package_imports_neither_torch_nor_recboles_modules(checkout):
    out = _run("import sys, recbole_recfound; print([m for m in ('torch', 'pandas', 'recbole.config') if m in sys.modules])", checkout)
    assert out.strip() == "[]"


def test_torch_load_still_refuses_pickles(tmp_path):
    class Anything:
        pass

    torch.save({"config": Ellipsis, "kind": Anything.__class__}, tmp_path / "x.pth")
    with pytest.raises(Exception, match="Weights only load failed"):
        torch.load(tmp_path / "x.pth", weights_only=True)
    assert torch.load.__module__ == "torch.serialization"


def test_modules_imported_before_are_repaired_too(checkout):
    code = """
import recbole.evaluator.collector as early
import recbole_recfound
print([code.co_name for code in early.Collector.get_data_struct.__code__.co_consts if hasattr(code, "co_name")])
"""
    assert "lambda" in _run(code, checkout)


def test_quick_start_without_ray(checkout):
    code = """
import sys
sys.modules["ray"] = None                 # what a missing or broken ray looks like
import recbole_recfound, recbole.quick_start
import recbole.quick_start.quick_start as module
module.tune.report(recall=1.0)
print(sys.modules["ray"], "ray.tune" in sys.modules)
"""
    assert _run(code, checkout).split() == ["None", "False"]
