"""When the repairs are made, and that they reach no further than RecBole."""

import importlib
import subprocess
import sys
import warnings
from functools import partial

import pytest
import recbole
import torch

from recbole_recfound import compat
from recbole_recfound.compat.importing import RepairingFinder
from recbole_recfound.compat.repairs import PLACES, Place, _rewriting, repairs_by_module


def _run(code: str, cwd) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_place_is_found():
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="recbole not repaired")
        for module in sorted({place.module for place in PLACES}):
            with repairs_by_module()[module](importlib.import_module(module)):
                pass


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
    out = _run(
        "import sys, recbole_recfound; print([m for m in ('torch', 'pandas', 'recbole.config') if m in sys.modules])",
        checkout,
    )
    assert out.strip() == "[]"


def test_torch_load_still_refuses_pickles(tmp_path):
    class Anything:
        pass

    torch.save({"config": Ellipsis, "kind": Anything.__class__}, tmp_path / "x.pth")
    with pytest.raises(Exception, match="Weights only load failed"):
        torch.load(tmp_path / "x.pth", weights_only=True)
    assert torch.load.__module__ == "torch.serialization"


@pytest.fixture
def plain_module(tmp_path, monkeypatch):
    """A module `plain_module_<n>` whose answer is 1, to be repaired to 2."""
    name = f"plain_module_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text("def answer():\n    return 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield name
    sys.modules.pop(name, None)


def _finder(name):
    return RepairingFinder({name: partial(_rewriting, [Place(name, "answer", "return 1", "return 2")])})


def test_a_module_is_repaired_when_it_is_imported_and_reloaded(plain_module, monkeypatch):
    monkeypatch.setattr(sys, "meta_path", [_finder(plain_module), *sys.meta_path])
    module = importlib.import_module(plain_module)
    assert module.answer() == 2
    assert importlib.reload(module).answer() == 2


def test_a_module_that_was_imported_before_is_repaired_too(plain_module):
    module = importlib.import_module(plain_module)
    answer = module.answer
    assert answer() == 1
    _finder(plain_module).repair_imported()
    assert module.answer() == answer() == 2


def test_quick_start_without_ray(monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "ray"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ray", None)  # what a missing or broken ray looks like
    monkeypatch.delitem(sys.modules, "recbole.quick_start.quick_start", raising=False)
    monkeypatch.delitem(sys.modules, "recbole.quick_start", raising=False)
    module = importlib.import_module("recbole.quick_start.quick_start")
    module.tune.report(recall=1.0)
    assert sys.modules["ray"] is None and "ray.tune" not in sys.modules
