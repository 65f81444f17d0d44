"""`--dry_run`: an estimate without data and weights."""

import re

import pytest
import torch
from transformers import LlamaConfig

from recbole_recfound.backbone import load_backbone
from recbole_recfound.cli import main
from recbole_recfound.config.configurator import Config
from recbole_recfound.model.trained import trained_parameters
from recbole_recfound.system.recfound.estimate import estimate
from tests.small_model import build_small


@pytest.fixture
def seven_billion(tmp_path):
    """A folder with the configuration of a 7B model, and nothing else."""
    LlamaConfig(
        vocab_size=32000, hidden_size=4096, intermediate_size=11008, num_hidden_layers=32, num_attention_heads=32
    ).save_pretrained(tmp_path / "7b")
    return tmp_path / "7b"


def _gib(line: str, text: str) -> float:
    return float(re.search(rf"^  {line}.* ([\d.]+) GiB$", text, re.M)[1])


def test_seven_billion_parameters_without_weights(seven_billion, tiny_path, tmp_path, capsys):
    words = [f"--backbone={seven_billion}", "--precision=bf16", "--dataset=tiny", f"--data_path={tiny_path}"]
    words += ["--history=prompt", "--use_gpu=False", f"--output_dir={tmp_path / 'runs'}"]
    assert main(["run", *words, "--dry_run"]) == 0
    said = capsys.readouterr().out
    assert "6,738,415,616 parameters" in said and "1,682 items" in said
    assert _gib("weights of the backbone", said) == pytest.approx(2 * 6_738_415_616 / 2**30, abs=0.01)
    plain, whole = _gib("activations", said), _gib("in all", said)
    assert whole == pytest.approx(sum(map(float, re.findall(r" ([\d.]+) GiB", said.split("in all")[0]))), abs=0.05)
    assert main(["run", *words, "--gradient_checkpointing", "--dry_run"]) == 0
    assert _gib("activations", capsys.readouterr().out) < plain / 5
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("mode", ["positions", "late"])
def test_the_trained_parameters_are_those_of_a_run(small_run, tiny_backbone, mode):
    settings = small_run | {"history": mode}
    model = build_small(settings).model
    found = estimate(Config("RecFound", "tiny", config_dict=dict(settings)))
    plain = load_backbone(str(tiny_backbone), torch.device("cpu")).model
    assert found.backbone == sum(weight.numel() for weight in plain.parameters())
    trained = sum(weight.numel() for weight in trained_parameters(model).values())
    # The .item file has all films of ml-100k, of which the data set has some; the user's projection is small.
    extra = (1682 - model.n_items) * 32
    assert found.trained == pytest.approx(trained + extra, rel=0.05)
    states = [size for name, size in found.memory.items() if name.startswith("states of 1,682 items")]
    assert states == ([4 * 1682 * 32] if mode == "late" else [])


def test_models_without_a_backbone(capsys):
    assert main(["run", "--model=BPR", "--dry_run"]) == 2
    assert "dry_run: got BPR, expected RecFound" in capsys.readouterr().err
