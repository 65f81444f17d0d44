"""What PEFT promises of every method, over the families of backbones users bring.

TMoLE and option tuning are held to it, and PEFT's own LoRA, by which the suite itself is checked.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import pytest
import torch
from peft import AutoPeftModelForCausalLM, LoraConfig, PeftConfig, PeftModel, get_peft_model
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file

from recbole_recfound.adapter import TMoLEConfig
from recbole_recfound.adapter.option import OptionConfig
from tests.adapter.models import FAMILIES, SIZES, SMALL, SMALL_OPTION, relative_error, tiny_backbone, tokens

LAYERS, STATE = SIZES["num_hidden_layers"], SIZES["hidden_size"]
KEYS = SIZES["num_key_value_heads"] * SIZES["head_dim"]
WIDTHS = {"q_proj": (STATE, STATE), "k_proj": (STATE, KEYS), "v_proj": (STATE, KEYS), "o_proj": (STATE, STATE)}
TASKS = ["U2I", "SR", 2, "spare"]


def low_rank(rank: int, more: int = 0) -> int:
    """Parameters of A and B of one layer, and `more` for each of its maps."""
    return sum(rank * (before + after) + more for before, after in WIDTHS.values())


@dataclass(frozen=True)
class Method:
    """A method, with small settings under which it changes the backbone's output.

    Args:
        config: of PEFT.
        settings: of the config.
        start: settings under which it starts as the backbone.
        other: settings of a second adapter, of other sizes.
        tensors: in its file.
        trained: parameters.
        inputs: of a forward, beside the tokens.
        head: what the method answers besides logits, such as prompts, which a forward does not read.
    """

    config: type[PeftConfig]
    settings: dict
    start: dict
    other: dict
    tensors: int
    trained: int
    inputs: dict = field(default_factory=dict)
    head: Callable[[PeftModel], torch.Tensor] = lambda model: torch.zeros(0)

    def configure(self, **changes) -> PeftConfig:
        return self.config(task_type="CAUSAL_LM", **(self.settings | changes))

    def adapt(self, backbone, **changes) -> PeftModel:
        torch.manual_seed(1)
        return get_peft_model(backbone, self.configure(**changes))

    def tiny(self, family: str = "llama", **changes) -> PeftModel:
        return self.adapt(tiny_backbone(family), **changes).eval()

    def logits(self, model) -> torch.Tensor:
        with torch.no_grad():
            return model(input_ids=tokens(), **self.inputs).logits

    def outputs(self, model) -> torch.Tensor:
        """Return all that the adapter in use decides."""
        return torch.cat([self.logits(model).flatten(), self.head(model).detach().flatten()])

    def loss(self, model) -> torch.Tensor:
        return model(input_ids=tokens(), **self.inputs).logits.float().square().mean() + self.head(model).sum()


METHODS = {
    "tmole": Method(
        TMoLEConfig,
        SMALL,
        start={"init_weights": True},
        other={"experts_per_group": 1},
        tensors=4 * len(WIDTHS) * LAYERS + 1,  # A, B, weight and bias of the router; one task table
        trained=LAYERS * low_rank(24, more=6 * 16 + 6) + 14 * 16,
        inputs={"tmole_tasks": TASKS},
    ),
    "option": Method(
        OptionConfig,
        SMALL_OPTION,
        start={"init_weights": True},
        other={"prompts": 3, "bottleneck": 2},
        tensors=5 * LAYERS + 1,  # W1, b1, W2, b2, lambda; the prompts
        trained=LAYERS * (2 * STATE * 4 + 4 + STATE + 1) + 5 * STATE,
        head=lambda model: model.base_model.prompts(),
    ),
    "lora": Method(
        LoraConfig,
        {"r": 4, "target_modules": list(WIDTHS), "init_lora_weights": False},
        start={"init_lora_weights": True},
        other={"r": 2},
        tensors=2 * len(WIDTHS) * LAYERS,  # A and B
        trained=LAYERS * low_rank(4),
    ),
}
methods = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
families = pytest.mark.parametrize("family", FAMILIES)


@methods
@families
def test_starts_as_the_backbone(method, family):
    expected = tiny_backbone(family)(input_ids=tokens()).logits
    torch.testing.assert_close(method.logits(method.tiny(family, **method.start)), expected)


@methods
@families
def test_disabled_is_exactly_the_backbone(method, family):
    expected = tiny_backbone(family)(input_ids=tokens()).logits
    model = method.tiny(family)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert not torch.allclose(method.logits(model), expected)
    with model.disable_adapter():
        assert torch.equal(method.logits(model), expected)
        assert torch.equal(model(input_ids=tokens()).logits, expected), "and nothing else is asked for"
        assert not any(parameter.requires_grad for parameter in model.parameters())
    assert {name for name, parameter in model.named_parameters() if parameter.requires_grad} == trained
    assert torch.equal(model.unload()(input_ids=tokens()).logits, expected)


@methods
@families
def test_save_and_reload(method, family, tmp_path):
    model = method.tiny(family)
    expected = method.outputs(model)
    model.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "adapter_model.safetensors")
    assert set(saved) == set(get_peft_model_state_dict(model)) and len(saved) == method.tensors

    reloaded = PeftModel.from_pretrained(tiny_backbone(family), tmp_path)
    assert torch.equal(method.outputs(reloaded), expected)
    assert not any(parameter.requires_grad for parameter in reloaded.parameters())
    lean = PeftModel.from_pretrained(tiny_backbone(family), tmp_path, low_cpu_mem_usage=True, is_trainable=True).eval()
    assert torch.equal(method.outputs(lean), expected)
    assert lean.get_nb_trainable_parameters()[0] == method.trained
    for again in (reloaded, lean):
        state = get_peft_model_state_dict(again)
        assert all(torch.equal(state[name], tensor) for name, tensor in saved.items())


@methods
def test_auto_class_finds_backbone_and_adapter(method, tmp_path):
    backbone = tiny_backbone()
    backbone.save_pretrained(tmp_path / "backbone")
    model = method.adapt(type(backbone).from_pretrained(tmp_path / "backbone")).eval()
    model.save_pretrained(tmp_path / "adapter")
    reloaded = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "adapter")
    assert torch.equal(method.outputs(reloaded), method.outputs(model))


@methods
def test_the_adapter_alone_is_trained(method):
    model = method.tiny()
    assert model.get_nb_trainable_parameters()[0] == method.trained
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    method.loss(model.train()).backward()
    optimizer.step()
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]) != parameter.requires_grad, name


@methods
def test_two_adapters(method):
    model = method.tiny()
    first, logits = method.outputs(model), method.logits(model)
    torch.manual_seed(7)
    model.add_adapter("other", method.configure(**method.other))
    model.eval()
    assert torch.equal(method.outputs(model), first)
    assert not any(parameter.requires_grad for name, parameter in model.named_parameters() if ".other" in name)

    model.set_adapter("other")
    assert not torch.allclose(method.logits(model), logits)
    trainable = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert trainable and all(".other" in name for name in trainable)

    model.delete_adapter("other")
    model.set_adapter("default")
    assert torch.equal(method.outputs(model), first)
    assert not any(".other" in name for name in model.state_dict())


@methods
def test_second_adapter_is_saved_and_loaded_by_name(method, tmp_path):
    model = method.tiny()
    torch.manual_seed(7)
    model.add_adapter("other", method.configure(**method.other))
    model.set_adapter("other")
    model.eval().save_pretrained(tmp_path, selected_adapters=["other"])
    fresh = method.tiny()
    fresh.load_adapter(tmp_path / "other", "again")
    fresh.set_adapter("again")
    assert torch.equal(method.outputs(fresh.eval()), method.outputs(model))


@methods
def test_generation_equals_one_forward_per_token(method):
    model, ids = method.tiny(), tokens()
    generate = partial(model.generate, attention_mask=torch.ones_like(ids), max_new_tokens=4, do_sample=False)
    found = generate(input_ids=ids, **method.inputs)
    for step in range(ids.shape[1], found.shape[1]):
        with torch.no_grad():
            best = model(input_ids=found[:, :step], **method.inputs).logits[:, -1].argmax(-1)
        running = (found[:, ids.shape[1] : step] != SIZES["eos_token_id"]).all(1)
        assert torch.equal(best[running], found[running, step])


@methods
@families
@pytest.mark.parametrize("autocast", [False, True])
def test_bfloat16_backbone_keeps_float32_adapters(method, family, autocast):
    expected = method.logits(method.tiny(family))
    model = method.adapt(tiny_backbone(family).to(torch.bfloat16)).train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert {parameter.dtype for parameter in trained} == {torch.float32}
    model.eval()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        output = method.logits(model)
        loss = method.loss(model)
    assert output.dtype == torch.bfloat16
    assert relative_error(output.float(), expected) < 0.1
    loss.backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in trained)


@methods
def test_deep_copy_is_independent(method):
    model = method.tiny()
    expected = method.outputs(model)
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in twin.parameters():
            if parameter.requires_grad:
                parameter.mul_(2)
    assert torch.equal(method.outputs(model), expected)
    assert not torch.allclose(method.logits(twin), method.logits(model))
    assert not torch.equal(method.head(twin), method.head(model)) or not method.head(model).numel()


@methods
def test_only_the_named_layers_are_adapted(method):
    model = method.tiny(layers_to_transform=[1])
    adapted = [name for name, parameter in model.named_parameters() if parameter.requires_grad and ".layers." in name]
    assert adapted and all(".layers.1." in name for name in adapted)
