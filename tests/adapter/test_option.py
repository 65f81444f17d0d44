"""Option tuning: the classifier that is a part of the prompts, and which modules can have an adapter.

What PEFT promises of every method is tested in `test_contract.py`.
"""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, BloomConfig

from recbole_recfound.adapter.option import OptionConfig, OptionModel
from tests.adapter.models import FAMILIES, SMALL_OPTION, tiny_backbone, tokens

families = pytest.mark.parametrize("family", FAMILIES)


def option_model(family: str = "llama", **options):
    """A backbone with option adapters whose W2 is not zero, in eval mode."""
    backbone = tiny_backbone(family)
    torch.manual_seed(1)
    return get_peft_model(backbone, OptionConfig(task_type="CAUSAL_LM", **(SMALL_OPTION | options))).eval()


def logits(model):
    with torch.no_grad():
        return model(input_ids=tokens()).logits


def test_without_a_bottleneck_the_prompts_alone_are_trained():
    assert option_model(bottleneck=0).get_nb_trainable_parameters()[0] == 5 * 32


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


def test_prompts_are_those_of_the_adapter_in_use():
    model = option_model()
    first = model.base_model.prompts()
    model.add_adapter("other", OptionConfig(task_type="CAUSAL_LM", prompts=3, bottleneck=2, init_weights=False))
    assert model.base_model.prompts() is first
    model.set_adapter("other")
    assert model.base_model.prompts().shape == (3, 32) and not first.requires_grad


@families
def test_an_adapter_of_zeros_changes_no_bit(family):
    expected = tiny_backbone(family)(input_ids=tokens()).logits
    assert torch.equal(logits(option_model(family, init_weights=True)), expected)


def test_only_the_mlps_are_adapted():
    model = option_model(layers_to_transform=[1])
    adapted = {name.split(".option_")[0] for name, _ in model.named_parameters() if "option_up" in name}
    assert adapted == {"base_model.model.model.layers.1.mlp"}


def test_merging_is_refused():
    with pytest.raises(ValueError, match="cannot be merged"):
        option_model().merge_adapter()


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
