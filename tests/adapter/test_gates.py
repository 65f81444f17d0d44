"""Gates worked out for all layers at once against each layer's own, and what they cost."""

from contextlib import contextmanager

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from recbole_recfound.adapter import build_adapter, routing
from recbole_recfound.adapter.tmole import TMoLELayer, gates
from recbole_recfound.adapter.tmole.functional import spread
from recbole_recfound.adapter.tmole.gates import ForwardGates
from recbole_recfound.backbone.depth import decode, first_layers
from tests.adapter.models import SMALL, relative_error, tiny_backbone, tiny_model, tokens

MIXED, EMBEDDING, ONE = ["U2I", "SR", "U2I", "spare"], ["U2I", "Q2I", "I2I", "Q2I"], ["SR"] * 4


def layers_of(model):
    return [module for module in model.modules() if isinstance(module, TMoLELayer)]


def router_gradients(model):
    table = model.base_model.tmole_task_table["default"]
    routers = [layer.tmole_router["default"] for layer in layers_of(model)]
    return [parameter.grad for router in routers for parameter in (router.weight, router.bias)] + [table.weight.grad]


@contextmanager
def freezing(model):
    """Nothing learns for a block."""
    learning = [weight for weight in model.parameters() if weight.requires_grad]
    for weight in learning:
        weight.requires_grad_(False)
    yield
    for weight in learning:
        weight.requires_grad_(True)


@pytest.mark.parametrize("tasks", [MIXED, EMBEDDING, ONE], ids=str)
def test_together_as_one_by_one(tasks):
    model = tiny_model().train()
    layers, table = layers_of(model), model.base_model.tmole_task_table["default"]
    plan = table.plan(table.ids(tasks), torch.device("cpu"))
    generator = torch.Generator().manual_seed(3)
    together = ForwardGates(layers, layers[0], "default", plan, torch.float32)
    found, expected, losses = [], [], [0, 0]
    for layer in layers:
        gate = layer.gate("default", plan)
        rows = gate if plan.rows is None else gate[plan.rows]
        expected.append(spread(rows, layer.scaling["default"], layer.experts("default", plan)[0].shape[0]))
        found.append(together.take(layer, plan))
        assert together.take(layer, plan) is None
        weigh = torch.randn(expected[-1].shape, generator=generator)
        losses = [total + (weigh * side[-1]).sum() for total, side in zip(losses, (found, expected), strict=True)]
        torch.testing.assert_close(found[-1], expected[-1])
    gradients = []
    for loss in losses:
        model.zero_grad()
        loss.backward()
        gradients.append(router_gradients(model))
    for left, right in zip(*gradients, strict=True):
        torch.testing.assert_close(left, right)


def test_gradients_are_those_of_finite_differences():
    model = tiny_model()
    layers, table = layers_of(model)[:2], model.base_model.tmole_task_table["default"]
    plan = table.plan(table.ids(MIXED), torch.device("cpu"))
    routers = [layer.tmole_router["default"] for layer in layers]
    weights = [*(router.weight for router in routers), *(router.bias for router in routers)]

    def gates_of(embeddings, *weights):
        return gates._Gates.apply(embeddings, plan, 2.0, 3, torch.float32, *weights)

    # The room works in float32, whatever it is given.
    inputs = [
        table.weight.detach().clone().requires_grad_(),
        *(weight.detach().clone().requires_grad_() for weight in weights),
    ]
    torch.autograd.gradcheck(gates_of, inputs, eps=1e-2, atol=2e-3, rtol=1e-2, nondet_tol=0, check_undefined_grad=False)


def test_one_product_for_a_forward(monkeypatch):
    model, calls = tiny_model(), []
    real = gates.route
    monkeypatch.setattr(gates, "route", lambda *given: calls.append(1) or real(*given))
    with routing(model, MIXED):
        model(input_ids=tokens())
        assert len(calls) == 1
        model(input_ids=tokens())
    assert len(calls) == 2
    with torch.no_grad():
        model.generate(
            input_ids=tokens(), attention_mask=torch.ones_like(tokens()), tmole_tasks=MIXED, max_new_tokens=4
        )
    assert len(calls) == 3, "generation works gates out once"


def test_a_layer_that_did_not_run_gets_no_gradient():
    model = tiny_model().train()
    inputs = torch.randn(4, 5, 32, generator=torch.Generator().manual_seed(0))
    with routing(model, MIXED):
        decode(first_layers(model.get_base_model().model, 1), inputs).square().sum().backward()
    ran, idle = layers_of(model)[:4], layers_of(model)[4:]
    assert all(layer.tmole_router["default"].weight.grad.abs().sum() > 0 for layer in ran)
    assert all(parameter.grad is None for layer in idle for parameter in layer.parameters())


def test_what_is_left_of_an_earlier_forward_is_not_stale():
    model = tiny_model(lora_dropout=0.0).train()
    first, last = layers_of(model)[0], layers_of(model)[-1]
    x = torch.randn(4, last.in_features, generator=torch.Generator().manual_seed(0))

    def fresh():
        with routing(model, MIXED):
            return last(x)

    with routing(model, MIXED):
        first(x).sum().backward()
        last(x).sum().backward()  # gates that were recorded together, after the first one's backward
        left = [router.grad.clone() for router in last.tmole_router["default"].parameters()]
        first(x)
        with torch.no_grad():
            last.tmole_router["default"].weight.normal_()
        assert torch.equal(last(x), fresh())
        with torch.no_grad():
            first(x)
        assert last(x).requires_grad
        with freezing(model):
            first(x)
        assert last(x).requires_grad
        first(x)
        last.scaling["default"] *= 3
        assert torch.equal(last(x), fresh())
        last.scaling["default"] /= 3
    model.zero_grad()
    with routing(model, MIXED):
        first(x).sum().backward()
    assert all(gradient.abs().sum() > 0 for gradient in left) and last.tmole_router["default"].weight.grad is None


def test_each_layer_gets_gates_in_its_own_precision():
    model = tiny_model()
    first, last = layers_of(model)[0], layers_of(model)[-1]
    x = torch.randn(4, last.in_features, generator=torch.Generator().manual_seed(0))
    with routing(model, MIXED):
        expected = last(x)
    with routing(model, MIXED):
        first.base_layer.bfloat16()(x.bfloat16())
        first(x.bfloat16())
        assert torch.equal(last(x), expected)


def test_a_model_made_for_inference_runs():
    with torch.inference_mode():
        model = tiny_model()
        assert torch.equal(
            model(input_ids=tokens(), tmole_tasks=MIXED).logits, model(input_ids=tokens(), tmole_tasks=MIXED).logits
        )


def test_layers_of_another_scaling_are_worked_out_apart():
    model = tiny_model()
    expected = model(input_ids=tokens(), tmole_tasks=MIXED).logits
    for layer in layers_of(model)[::2]:
        layer.scaling["default"] *= 2
        layer.tmole_lora_B["default"].data /= 2
    assert relative_error(model(input_ids=tokens(), tmole_tasks=MIXED).logits, expected) < 1e-5


class Counter(TorchDispatchMode):
    """Counts operations that compute something; views start nothing on a device."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += not function.is_view and "detach" not in function.__name__
        return function(*args, **kwargs or {})


def operations(kind, layers, tasks, dtype):
    """Of forward and backward."""
    torch.manual_seed(0)
    options = SMALL if kind == "tmole" else {"r": 24, "lora_dropout": 0.0}
    backbone = tiny_backbone(num_hidden_layers=layers).to(dtype)
    model = build_adapter(backbone, kind, **(options | {"lora_dropout": 0.0})).train()
    with (
        Counter() as counter,
        torch.autocast("cpu", torch.bfloat16, enabled=dtype != torch.float32),
        routing(model, tasks),
    ):
        model.get_base_model().model(tokens()).last_hidden_state.float().sum().backward()
    return counter.count


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("tasks", [MIXED, ONE], ids=str)
def test_a_layer_starts_hardly_more_operations_than_plain_lora(tasks, dtype):
    """On a GPU and with small batches a step takes as long as its operations take to start."""
    per_layer = {
        kind: (operations(kind, 5, tasks, dtype) - operations(kind, 1, tasks, dtype)) / 4 for kind in ("tmole", "lora")
    }
    assert per_layer["tmole"] < 1.1 * per_layer["lora"], per_layer
