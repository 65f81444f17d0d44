import pytest
import torch

from recbole_recfound.adapter import (
    build_adapter,
    check_adapter,
    check_gradients,
    record_layers,
    routing,
    without_adapter,
)
from recbole_recfound.backbone.depth import decode, first_layers
from recbole_recfound.data.task import task_table
from recbole_recfound.errors import TrainingError
from tests.adapter.models import tiny_backbone, tiny_model, tokens

KINDS = ["tmole", "lora"]
TASKS = ["U2I", "SR", "AG"]


def fresh(kind="tmole", **options):
    return build_adapter(tiny_backbone(), kind, task_table(), **options).train()


def runner(model):
    return lambda: model.get_base_model().model(tokens()).last_hidden_state


@pytest.mark.parametrize("kind", KINDS)
def test_passes_and_leaves_no_trace(kind):
    model = fresh(kind)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    check_adapter(model, runner(model), TASKS)
    assert torch.equal(torch.rand(3), expected)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_finds_a_silent_adapter(kind):
    model = fresh(kind)
    backbone = tiny_backbone()
    with pytest.raises(TrainingError, match="has no effect"):
        check_adapter(model, lambda: backbone.model(tokens()).last_hidden_state, TASKS)


def test_finds_a_route_without_effect():
    model = fresh()
    with pytest.raises(TrainingError, match="'U2I' and 'SR'"):

        def stuck():
            with routing(model, "U2I"):
                return runner(model)()

        check_adapter(model, stuck, TASKS)


def test_weights_come_back_after_a_failure():
    model = fresh()

    def broken():
        raise KeyError("broken")

    with pytest.raises(KeyError):
        check_adapter(model, broken, TASKS)
    assert all(value.count_nonzero() == 0 for name, value in model.state_dict().items() if "lora_B" in name)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_the_layers_that_ran(kind):
    model = fresh(kind)
    inputs = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(0))
    with record_layers(model) as ran, routing(model, ["U2I", "SR"]):
        with without_adapter(model):  # a pass that has nothing to learn
            decode(model.get_base_model().model, inputs)
        decode(first_layers(model.get_base_model().model, 1), inputs).square().sum().backward()
    assert ran == {f"model.layers.0.self_attn.{name}_proj" for name in "qkvo"}
    check_gradients(model, ran)
    with pytest.raises(TrainingError, match=r"layers\.1\.self_attn\.q_proj"):
        check_gradients(model)


def test_zero_gradients_are_named():
    model = tiny_model().train()
    with routing(model, "SR"):
        runner(model)()[..., 0].sum().backward()
    check_gradients(model)
    layer = model.get_base_model().model.layers[1].self_attn.v_proj
    layer.tmole_lora_B["default"].grad.zero_()
    with pytest.raises(TrainingError, match=r"no gradient reached model\.layers\.1\.self_attn\.v_proj: "):
        check_gradients(model)


def test_nothing_ran():
    with pytest.raises(TrainingError, match="none ran"):
        check_gradients(fresh(), layers=set())
