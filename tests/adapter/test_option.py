"""Option tuning: what PEFT promises of every method, and the classifier that is a part of the prompts."""

import copy

import pytest
import torch
from peft import AutoPeftModelForCausalLM, LoraConfig, PeftModel, get_peft_model
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, BloomConfig

from recbole_recfound.adapter.option import OptionConfig, OptionModel
from tests.adapter.models import FAMILIES, tiny_backbone, tokens

families = pytest.mark.parametrize("family", FAMILIES)


def option_model(family: str = "llama", **options):
    """A backbone with option adapters whose W2 is not zero, in eval mode."""
    backbone = tiny_backbone(family)
    torch.manual_seed(1)
    config = {"task_type": "CAUSAL_LM", "prompts": 5, "classes": 2, "bottleneck": 4, "init_weights": False}
    return get_peft_model(backbone, OptionConfig(**(config | options))).eval()


def logits(model):
    with torch.no_grad():
        return model(input_ids=tokens()).logits


@families
def test_starts_as_the_backbone(family):
    expected = tiny_backbone(family)(input_ids=tokens()).logits
    assert torch.equal(logits(option_model(family, init_weights=True)), expected)


@families
def test_disabled_is_exactly_the_backbone(family):
    expected = tiny_backbone(family)(input_ids=tokens()).logits
    model = option_model(family)
    assert not torch.allclose(logits(model), expected)
    with model.disable_adapter():
        assert torch.equal(logits(model), expected)
        assert not model.base_model.prompts().requires_grad
    assert model.base_model.prompts().requires_grad
    assert torch.equal(model.unload()(input_ids=tokens()).logits, expected)


@families
def test_save_and_reload(family, tmp_path):
    model = option_model(family)
    model.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "adapter_model.safetensors")
    assert set(saved) == set(get_peft_model_state_dict(model))
    assert len(saved) == 2 * 5 + 1  # two layers: W1, b1, W2, b2, lambda; the prompts

    reloaded = PeftModel.from_pretrained(tiny_backbone(family), tmp_path)
    assert torch.equal(logits(reloaded), logits(model))
    assert torch.equal(reloaded.base_model.prompts(), model.base_model.prompts())
    assert not any(parameter.requires_grad for parameter in reloaded.parameters())
    lean = PeftModel.from_pretrained(tiny_backbone(family), tmp_path, low_cpu_mem_usage=True, is_trainable=True)
    assert torch.equal(logits(lean.eval()), logits(model))
    assert torch.equal(lean.base_model.prompts(), model.base_model.prompts())
    assert lean.base_model.prompts().requires_grad


def test_auto_class_finds_backbone_and_adapter(tmp_path):
    backbone = tiny_backbone()
    backbone.save_pretrained(tmp_path / "backbone")
    backbone = type(backbone).from_pretrained(tmp_path / "backbone")
    torch.manual_seed(1)
    config = OptionConfig(task_type="CAUSAL_LM", bottleneck=4, init_weights=False)
    model = get_peft_model(backbone, config).eval()
    model.save_pretrained(tmp_path / "adapter")
    reloaded = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "adapter")
    assert torch.equal(logits(reloaded), logits(model))


@pytest.mark.parametrize("bottleneck", [0, 4])
def test_trainable_parameters_are_prompts_and_adapters(bottleneck):
    model = option_model(bottleneck=bottleneck)
    adapters = 2 * (2 * 32 * bottleneck + bottleneck + 32 + 1) if bottleneck else 0
    assert model.get_nb_trainable_parameters()[0] == 5 * 32 + adapters


def test_the_last_prompts_are_the_classifier():
    model = option_model()
    options = model.base_model
    hidden = torch.randn(3, 32)
    torch.testing.assert_close(options.classify(hidden), hidden @ options.prompts()[3:].T / 32**0.5)
    options.classify(hidden).sum().backward()
    gradient = options.prompts().grad
    assert gradient[:3].abs().sum() == 0
    torch.testing.assert_close(gradient[3:], (hidden.sum(0) / 32**0.5).expand(2, -1))
    with torch.no_grad():  # there is one tensor: changing the prompt changes the logits
        options.prompts()[4] = 0
    assert options.classify(hidden)[:, 1].abs().sum() == 0
    assert not [name for name, _ in model.named_parameters() if "classif" in name]


def test_two_adapters():
    model = option_model()
    first, prompts = logits(model), model.base_model.prompts()
    torch.manual_seed(7)
    model.add_adapter("other", OptionConfig(task_type="CAUSAL_LM", prompts=3, bottleneck=2, init_weights=False))
    model.eval()
    assert torch.equal(logits(model), first)
    assert not model.base_model.prompts("other").requires_grad

    model.set_adapter("other")
    assert not torch.allclose(logits(model), first)
    assert model.base_model.prompts().shape == (3, 32) and not prompts.requires_grad
    trainable = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert trainable and all(".other" in name for name in trainable)

    model.delete_adapter("other")
    model.set_adapter("default")
    assert torch.equal(logits(model), first)
    assert not any(".other" in name for name in model.state_dict())


def test_second_adapter_is_saved_and_loaded_by_name(tmp_path):
    model = option_model()
    torch.manual_seed(7)
    model.add_adapter("other", OptionConfig(task_type="CAUSAL_LM", bottleneck=2, init_weights=False))
    model.set_adapter("other")
    model.eval()
    model.save_pretrained(tmp_path, selected_adapters=["other"])
    fresh = option_model()
    fresh.load_adapter(tmp_path / "other", "again")
    fresh.set_adapter("again")
    assert torch.equal(logits(fresh.eval()), logits(model))
    assert torch.equal(fresh.base_model.prompts(), model.base_model.prompts())


def test_generation_equals_one_forward_per_token():
    model, ids = option_model(), tokens()
    found = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=4, do_sample=False)
    for step in range(ids.shape[1], found.shape[1]):
        with torch.no_grad():
            best = model(input_ids=found[:, :step]).logits[:, -1].argmax(-1)
        running = (found[:, ids.shape[1] : step] != 2).all(1)
        assert torch.equal(best[running], found[running, step])


def test_merging_is_refused():
    with pytest.raises(ValueError, match="cannot be merged"):
        option_model().merge_adapter()


@families
def test_bfloat16_backbone_keeps_float32_adapters(family):
    backbone = tiny_backbone(family).to(torch.bfloat16)
    torch.manual_seed(1)
    model = get_peft_model(backbone, OptionConfig(task_type="CAUSAL_LM", prompts=5, bottleneck=4, init_weights=False))
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert {parameter.dtype for parameter in trained} == {torch.float32}
    output = model(input_ids=tokens(), output_hidden_states=True)
    assert output.logits.dtype == torch.bfloat16
    (output.logits.float().square().mean() + model.base_model.classify(output.hidden_states[-1]).sum()).backward()
    assert all(parameter.grad is not None and torch.isfinite(parameter.grad).all() for parameter in trained)


def test_deep_copy_is_independent():
    model = option_model()
    expected = logits(model)
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.mul_(2)
    assert torch.equal(logits(model), expected)
    assert not torch.equal(twin.base_model.prompts(), model.base_model.prompts())


def test_only_the_named_layers_are_adapted():
    model = option_model(layers_to_transform=[1])
    adapted = {name.split(".option_")[0] for name, _ in model.named_parameters() if "option_up" in name}
    assert adapted == {"base_model.model.model.layers.1.mlp"}


@pytest.mark.parametrize("wrong", [{"prompts": 0}, {"bottleneck": -1}, {"classes": 6}, {"prompts": True}])
def test_wrong_sizes(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        option_model(**wrong)


@pytest.mark.parametrize(
    ("target", "cause"),
    [
        ("up_proj", r"up_proj \(Linear\), expected MLPs, .* but it returns \[..., 48\]"),
        ("k_proj", r"k_proj \(Linear\), .* but it returns \[..., 16\]"),
        ("down_proj", r"down_proj \(Linear\), .* but mat1 and mat2 shapes"),
        ("self_attn", r"self_attn \(LlamaAttention\), expected MLPs"),
        ("embed_tokens", r"embed_tokens \(Embedding\), "),
        ("act_fn", r"act_fn \(.*\), .* but it has no weights"),
    ],
)
def test_modules_that_do_not_map_states_to_states_are_refused_in_one_line(target, cause):
    with pytest.raises(TypeError, match=f"target_modules: got {cause}") as refused:
        option_model(target_modules=[target])
    assert "\n" not in str(refused.value)


@families
def test_a_linear_map_of_states_and_another_method_s_layer_can_have_an_adapter(family):
    assert logits(option_model(family, target_modules=["o_proj"])).shape == (4, 6, 61)
    torch.manual_seed(1)
    model = get_peft_model(tiny_backbone(family), LoraConfig(target_modules=["mlp.up_proj"], lora_dropout=0.5)).train()
    before = torch.get_rng_state()
    tuner = OptionModel(
        model.base_model.model, {"default": OptionConfig(bottleneck=0, prompts=1, classes=0)}, "default"
    )
    drawn = torch.get_rng_state()
    torch.set_rng_state(before)
    torch.randn(1, tuner.width)
    assert torch.equal(torch.get_rng_state(), drawn), "the prompts alone are drawn"


def test_an_mlp_that_takes_more_than_a_state():
    """BLOOM's MLP adds the residual itself."""
    sizes = {"vocab_size": 64, "hidden_size": 32, "n_layer": 2, "n_head": 4}
    model = AutoModelForCausalLM.from_config(BloomConfig(**sizes))
    tuner = OptionModel(model, {"default": OptionConfig(bottleneck=4, prompts=2)}, "default")
    assert len(tuner.targeted_module_names) == 2
    assert model(input_ids=torch.zeros(1, 4, dtype=torch.long)).logits.isfinite().all()
