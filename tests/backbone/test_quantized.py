"""Backbones in 4 and 8 bits."""

from __future__ import annotations

import pytest
import torch

from recbole_recfound import load_recfound, run_recfound
from recbole_recfound.backbone import load_backbone
from recbole_recfound.backbone import quantized as module
from recbole_recfound.errors import BackboneError, ConfigError
from recbole_recfound.runtime.device import choose_device
from tests.settings import Settings
from tests.tiny_backbone import write_tiny_backbone


def test_without_the_package_it_is_refused_before_anything_is_loaded(tiny_backbone, monkeypatch, small_run):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="backbone_bits: 8 needs the package bitsandbytes: pip install"):
        run_recfound("RecFound", "tiny", config_dict=small_run | {"backbone_bits": 8})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backbone_bits": 3}, "backbone_bits: got 3"),
        ({"backbone_bits": 5}, "backbone_bits: got 5, expected 4, 8 or nothing"),
        ({"backbone_bits": 4, "use_gpu": False}, "4 cannot be trained on a CPU"),
        ({"backbone_bits": 4, "control": "random_body"}, "backbone_bits: control: random_body replaces"),
    ],
)
def test_what_cannot_be(small_run, change, message):
    with pytest.raises(ConfigError, match=message):
        run_recfound("RecFound", "tiny", config_dict=small_run | change)


def test_where_it_cannot_run_one_line_says_so(tiny_backbone, monkeypatch):
    pytest.importorskip("bitsandbytes")

    def refuse(*args, **options):
        raise RuntimeError("no kernel for this device\nmore")

    monkeypatch.setattr("recbole_recfound.backbone.load.AutoModelForCausalLM.from_pretrained", refuse)
    with pytest.raises(BackboneError, match="^backbone_bits: 4 cannot run on .*: no kernel for this device$"):
        load_backbone(str(tiny_backbone), choose_device(False, None), bits=4)


@pytest.mark.parametrize("bits", [4, 8])
def test_few_bits(tmp_path, bits):
    pytest.importorskip("bitsandbytes")
    folder, device = write_tiny_backbone(tmp_path, width=128), choose_device(False, None)
    plain, few = load_backbone(str(folder), device), load_backbone(str(folder), device, bits=bits)
    assert few.fingerprint != plain.fingerprint
    assert few.fingerprint == load_backbone(str(folder), device, bits=bits).fingerprint
    weight = few.model.base_model.layers[0].mlp.up_proj.weight
    assert weight.dtype in (torch.uint8, torch.int8) and few.model.base_model.embed_tokens.weight.is_floating_point()
    ids = torch.arange(20, 40)[None]
    with torch.no_grad():
        ours, theirs = (one.model.base_model(ids).last_hidden_state for one in (few, plain))
    assert 0 < (ours - theirs).norm() / theirs.norm() < 0.3


def test_a_run_with_eight_bits_trains_and_is_loaded_alike(tmp_path, small_run):
    pytest.importorskip("bitsandbytes")
    folder = write_tiny_backbone(tmp_path, width=128)
    settings = Settings(small_run) | {
        "backbone": str(folder),
        "backbone_bits": 8,
        "max_steps": 2,
        "precision": "float32",
    }
    result = run_recfound("RecFound", "tiny", config_dict=settings)
    loaded = load_recfound(result["run_dir"])
    assert loaded.evaluate().metrics == pytest.approx(result["test_result"], abs=2e-4)
    items = list(loaded.item_ids)
    assert loaded.generate("SR", history=items[:3], candidates=items[4:7]) in "ABC"
