"""What is no backbone is refused in one line."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Gemma2Config, LlamaConfig, PretrainedConfig

from recbole_recfound.backbone import check_bidirectional, depth, load, load_backbone
from recbole_recfound.backbone.load import fingerprint, weight_sum
from recbole_recfound.errors import BackboneError
from tests.tiny_backbone import write_tiny_backbone

DEVICE = torch.get_default_device()


def _folder(tmp_path, config):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    return str(tmp_path / "model")


def test_a_folder_that_is_no_backbone(tmp_path):
    with pytest.raises(BackboneError, match="backbone '.*absent' not found") as refused:
        load_backbone(str(tmp_path / "absent"), DEVICE)
    assert "\n" not in str(refused.value)
    encoder = _folder(tmp_path, {"model_type": "vit", "architectures": ["ViTModel"]})
    with pytest.raises(BackboneError, match="is a vit model, not a causal language model"):
        load_backbone(encoder, DEVICE)


def test_weights_that_cannot_be_read(tmp_path):
    folder = write_tiny_backbone(tmp_path)
    weights = next(folder.glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(BackboneError, match="cannot be loaded") as refused:
        load_backbone(str(folder), DEVICE)
    assert "\n" not in str(refused.value)


def _changed(path, **entries):
    """Change entries of a JSON file; those that are None are removed."""
    merged = json.loads(path.read_text()) | entries
    path.write_text(json.dumps({name: entry for name, entry in merged.items() if entry is not None}))


@pytest.mark.parametrize(
    ("part", "count"), [("model.layers.2.", 9), ("lm_head.weight", 1), ("model.layers.0.mlp.down_proj.weight", 1)]
)
def test_missing_weights_are_named(tmp_path, part, count):
    folder = write_tiny_backbone(tmp_path)
    weights = {name: weight for name, weight in load_file(folder / "model.safetensors").items() if part not in name}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BackboneError, match=f"{count} of its weights are missing .{part}") as refused:
        load_backbone(str(folder), DEVICE)
    assert "\n" not in str(refused.value)


def test_a_tied_head_is_not_missing(tmp_path):
    folder = write_tiny_backbone(tmp_path, family=LlamaConfig, tie_word_embeddings=True)
    assert "lm_head.weight" not in load_file(folder / "model.safetensors")
    model = load_backbone(str(folder), DEVICE).model
    assert model.lm_head.weight is model.model.embed_tokens.weight


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({"intermediate_size": 128}, "9 of its weights have other shapes than in config.json .model.layers.0.mlp"),
        ({"num_hidden_layers": 4}, "9 of its weights are missing .model.layers.3."),
        ({"num_hidden_layers": "three"}, "config.json of backbone .* cannot be read: .*num_hidden_layers"),
        ({"quantization_config": {"quant_method": "fancy"}}, "quantised as 'fancy', which transformers does not know"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 128}}, "cannot be loaded: "),
        ({"quantization_config": {"quant_method": "awq", "bits": 4}}, "cannot be loaded: "),
    ],
    ids=str,
)
def test_a_configuration_that_does_not_fit_the_weights_or_the_machine(tmp_path, entries, said):
    folder = write_tiny_backbone(tmp_path)
    _changed(folder / "config.json", **entries)
    with pytest.raises(BackboneError, match=said) as refused:
        load_backbone(str(folder), DEVICE)
    assert "\n" not in str(refused.value)


def test_a_tokenizer_that_cannot_be_used(tmp_path):
    folder = write_tiny_backbone(tmp_path)
    _changed(folder / "tokenizer_config.json", eos_token=None, pad_token=None)
    with pytest.raises(BackboneError, match="tokenizer of backbone .* has no end token.*: name it as eos_token"):
        load_backbone(str(folder), DEVICE)
    _changed(folder / "tokenizer_config.json", pad_token="<|im_end|>")
    assert load_backbone(str(folder), DEVICE).tokenizer.pad_token_id is not None, "vectors need no end"
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(BackboneError, match="the tokenizer of backbone .* cannot be loaded: KeyError"):
        load_backbone(str(folder), DEVICE)


def test_a_backbone_that_stays_causal_is_refused(tiny_backbone, monkeypatch):
    decoder = load_backbone(str(tiny_backbone), torch.device("cpu")).model.model
    ids = torch.arange(8).unsqueeze(0)
    check_bidirectional(decoder, ids)
    causal = depth.decode
    monkeypatch.setattr(depth, "decode", lambda *given, **named: causal(*given, **named | {"causal": True}))
    with pytest.raises(BackboneError, match="stays causal in transformers"):
        check_bidirectional(decoder, ids)


def test_the_fingerprint_covers_every_weight_the_tokenizer_and_the_chat_template(tmp_path):
    backbone = load_backbone(str(write_tiny_backbone(tmp_path)), DEVICE)
    model, tokenizer = backbone.model, backbone.tokenizer
    assert fingerprint(model, tokenizer) == backbone.fingerprint
    rng = torch.Generator().manual_seed(0)
    for name, weight in model.state_dict().items():
        for place in torch.randint(weight.numel(), (3,), generator=rng).tolist():
            before = weight.view(-1)[place].clone()
            weight.view(-1)[place] += 0.5
            assert fingerprint(model, tokenizer) != backbone.fingerprint, (name, place)
            weight.view(-1)[place] = before
    assert fingerprint(model, tokenizer) == backbone.fingerprint
    assert fingerprint(model.to(torch.bfloat16), tokenizer) == backbone.fingerprint
    template = tokenizer.chat_template
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    assert fingerprint(model, tokenizer) != backbone.fingerprint
    tokenizer.chat_template = template
    tokenizer.add_tokens(["another"])
    assert fingerprint(model, tokenizer) != backbone.fingerprint


def test_two_weights_that_change_places_are_noticed():
    weight = torch.arange(9_000_000, dtype=torch.float32).remainder(251)
    swapped = weight.clone()
    swapped[[3, 8_999_999]] = swapped[[8_999_999, 3]]
    assert weight_sum(weight) == weight_sum(weight.view(3000, 3000)) != weight_sum(swapped)


@pytest.mark.parametrize(("family", "kernel"), [(LlamaConfig, "sdpa"), (Gemma2Config, "eager")])
@pytest.mark.parametrize("gpu", [True, False])
def test_the_fused_attention_is_used_on_gpus_where_the_model_has_it(
    family: type[PretrainedConfig], kernel, gpu, tmp_path, monkeypatch
):
    folder = write_tiny_backbone(tmp_path, family=family, head_dim=8)
    _changed(folder / "config.json", attn_implementation="flex_attention")
    monkeypatch.setattr(load, "is_gpu", lambda device: gpu)
    model = load_backbone(str(folder), torch.device("cpu")).model
    assert model.config._attn_implementation == (kernel if gpu else "eager")
    assert model(input_ids=torch.tensor([[5, 6, 7]])).logits.isfinite().all()
