import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft.utils import merge_utils

from recbole_recfound.merge import MERGE_METHODS, merge

SHAPES = {"adapter.A": (4, 6), "adapter.B": (6, 4), "temperature": (), "table": (5, 3)}
DELTA_METHODS = ("ties", "dare_ties")
every_method = pytest.mark.parametrize("method", MERGE_METHODS)
seeds = st.integers(0, 2**16)


def state(seed, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    return {key: scale * torch.randn(shape, generator=generator) for key, shape in SHAPES.items()}


BASE = state(99)


def models(count, seed=0):
    return [{key: BASE[key] + value for key, value in state(seed + index, 0.1).items()} for index in range(count)]


def count_for(method):
    return 2 if method == "slerp" else 3


def run(states, method, **options):
    return merge(states, method, base=BASE, **options)


def check_equal(found, expected, **tolerance):
    assert set(found) == set(expected)
    for key in found:
        torch.testing.assert_close(found[key], expected[key], **tolerance)


@every_method
@given(seed=seeds)
@settings(max_examples=25, deadline=None)
def test_equal_models_merge_to_themselves(method, seed):
    (model,) = models(1, seed)
    options = {} if method == "slerp" else {"weights": [1, 5, 2]}
    check_equal(run([model] * count_for(method), method, **options), model)


@every_method
@given(seed=seeds, order=st.permutations(range(3)))
@settings(max_examples=25, deadline=None)
def test_the_order_of_models_does_not_matter(method, seed, order):
    states, weights = models(3, seed), [0.2, 0.5, 0.3]
    if method == "slerp":
        check_equal(run(states[:2], method, t=0.3), run(states[1::-1], method, t=0.7))
        return
    shuffled = run([states[i] for i in order], method, weights=[weights[i] for i in order])
    check_equal(shuffled, run(states, method, weights=weights))


@every_method
def test_all_weight_on_one_model(method):
    states = models(2)
    options = {"t": 1.0} if method == "slerp" else {"weights": [0, 1]}
    found = run(states, method, **options)
    if method in DELTA_METHODS:  # the sign is elected by all, whatever their weight
        agreed = {key: (states[0][key] - BASE[key]).sign() == (states[1][key] - BASE[key]).sign() for key in BASE}
        check_equal(
            {key: (found[key] - BASE[key])[agreed[key]] for key in BASE},
            {key: (states[1][key] - BASE[key])[agreed[key]] for key in BASE},
        )
    else:
        check_equal(found, states[1])


def test_only_the_ratio_of_weights_counts():
    states = models(3)
    for method in ("linear", "ties", "dare_ties"):
        check_equal(run(states, method, weights=[2, 4, 6]), run(states, method, weights=[1, 2, 3]))
        check_equal(run(states, method), run(states, method, weights=[7, 7, 7]))


@given(seeds)
@settings(max_examples=25, deadline=None)
def test_linear_is_the_weighted_mean_and_needs_no_base(seed):
    states = models(3, seed)
    found = merge(states, "linear", weights=[1, 1, 2])
    check_equal(found, {k: (states[0][k] + states[1][k] + 2 * states[2][k]) / 4 for k in BASE})
    for key, value in found.items():
        stacked = torch.stack([model[key] for model in states])
        assert (value <= stacked.amax(0) + 1e-6).all() and (value >= stacked.amin(0) - 1e-6).all()


@given(seeds, st.floats(0, 1))
@settings(max_examples=25, deadline=None)
def test_slerp_keeps_the_length_on_a_sphere(seed, t):
    pair = [{"x": value / value.norm()} for value in (state(seed)["table"], state(seed + 1)["table"])]
    assert merge(pair, "slerp", t=t)["x"].norm() == pytest.approx(1, abs=1e-5)


def test_slerp_follows_the_arc():
    pair = [{"x": torch.tensor([1.0, 0.0])}, {"x": torch.tensor([0.0, 1.0])}]
    angle = torch.tensor(torch.pi / 6)
    torch.testing.assert_close(merge(pair, "slerp", t=1 / 3)["x"], torch.stack([angle.cos(), angle.sin()]))
    opposite = [{"x": torch.tensor([1.0, 0.0])}, {"x": torch.tensor([-1.0, 0.0])}]
    assert torch.equal(merge(opposite, "slerp")["x"], torch.zeros(2))
    zero = [{"x": torch.zeros(2)}, {"x": torch.tensor([2.0, 4.0])}]
    assert torch.equal(merge(zero, "slerp")["x"], torch.tensor([1.0, 2.0]))


def test_ties_of_equal_weights_equals_peft():
    states = models(3)
    found = run(states, "ties", density=0.5)
    scaled = torch.ones(3)
    for key in ("adapter.A", "adapter.B"):  # even sizes: PEFT rounds the number of kept entries down, we up
        deltas = [model[key] - BASE[key] for model in states]
        torch.testing.assert_close(found[key], BASE[key] + merge_utils.ties(deltas, scaled, 0.5))


def test_dare_ties_equals_peft_with_the_same_draws():
    states = [{"x": model["table"]} for model in models(3)]
    found = merge(states, "dare_ties", base={"x": BASE["table"]}, density=0.6, seed=5)
    torch.manual_seed(5)
    expected = merge_utils.dare_ties([model["x"] - BASE["table"] for model in states], torch.ones(3), 0.6)
    torch.testing.assert_close(found["x"], BASE["table"] + expected)


def test_sparsified_linear_equals_peft():
    states = models(3)
    found = run(states, "linear", sparsify="magnitude", density=0.25)
    for key in ("adapter.A", "adapter.B"):
        deltas = [model[key] - BASE[key] for model in states]
        expected = BASE[key] + merge_utils.magnitude_prune(deltas, torch.full((3,), 1 / 3), 0.25)
        torch.testing.assert_close(found[key], expected)
    drawn = [{"x": model["table"]} for model in states]
    found = merge(drawn, "linear", base={"x": BASE["table"]}, sparsify="random", density=0.25, seed=3)["x"]
    torch.manual_seed(3)
    deltas = [model["x"] - BASE["table"] for model in drawn]
    torch.testing.assert_close(found, BASE["table"] + merge_utils.dare_linear(deltas, torch.full((3,), 1 / 3), 0.25))


def test_ties_by_hand():
    base = {"x": torch.zeros(4)}
    states = [{"x": torch.tensor(values)} for values in ([3.0, 1.0, -1.0, 0.1], [1.0, -4.0, -3.0, 0.2])]
    assert torch.equal(merge(states, "ties", base=base)["x"], torch.tensor([2.0, -4.0, -2.0, 0.15]))
    assert torch.equal(merge(states, "ties", base=base, density=0.25)["x"], torch.tensor([3.0, -4.0, 0.0, 0.0]))


def test_weights_of_ties_elect_and_average():
    """PEFT divides by how many agree: a model of weight .9 that agrees with none would count 1.8 times there."""
    base = {"x": torch.zeros(4)}
    states = [{"x": torch.tensor(values)} for values in ([1.0, 1.0, 1.0, 0.0], [1.0, -0.5, 0.0, 1.0])]
    expected = {(1.0, 0.0): [1.0, 1.0, 1.0, 0.0], (0.9, 0.1): [1.0, 1.0, 1.0, 1.0], (0.2, 0.8): [1.0, -0.5, 1.0, 1.0]}
    for weights, values in expected.items():
        found = merge(states, "ties", base=base, weights=list(weights))["x"]
        torch.testing.assert_close(found, torch.tensor(values))


@given(seeds, st.lists(st.floats(0.01, 1), min_size=3, max_size=3))
@settings(max_examples=25, deadline=None)
def test_ties_stays_within_the_range_of_the_models(seed, weights):
    states = [{"x": state(seed + number)["table"]} for number in range(3)]
    found = merge(states, "ties", base={"x": torch.zeros_like(states[0]["x"])}, weights=weights)["x"]
    stacked = torch.stack([each["x"] for each in states])
    assert (found <= stacked.amax(0).clamp(min=0) + 1e-5).all() and (found >= stacked.amin(0).clamp(max=0) - 1e-5).all()


@pytest.mark.parametrize("method", DELTA_METHODS)
def test_a_single_number_survives_pruning(method):
    states = models(2)
    found = run(states, method, density=0.1)["temperature"]
    assert found != BASE["temperature"]


def test_seed_decides_the_random_masks_alone():
    states = models(3)
    one = run(states, "dare_ties", density=0.5, seed=1)
    torch.manual_seed(123)
    turned = [dict(reversed(model.items())) for model in states]
    check_equal(run(turned, "dare_ties", density=0.5, seed=1), one, rtol=0, atol=0)
    assert any(not torch.equal(run(states, "dare_ties", density=0.5, seed=2)[key], one[key]) for key in one)


@every_method
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_dtype_is_kept_and_inputs_are_untouched(method, dtype):
    states = [{key: value.to(dtype) for key, value in model.items()} for model in models(count_for(method))]
    before = [{key: value.clone() for key, value in model.items()} for model in states]
    found = run(states, method)
    assert {value.dtype for value in found.values()} == {dtype}
    for model, old in zip(states, before, strict=True):
        check_equal(model, old, rtol=0, atol=0)


@every_method
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_values_must_be_finite(method, bad):
    states = models(count_for(method))
    states[1]["adapter.B"][0, 0] = bad
    with pytest.raises(ValueError, match=r"adapter\.B of model 1"):
        run(states, method)


def test_integers_are_refused():
    with pytest.raises(ValueError, match=r"steps of model 0 holds torch\.int64"):
        merge([{"steps": torch.tensor([1])}] * 2, "linear")


@every_method
def test_tensors_must_match(method):
    states = models(count_for(method))
    states[1]["extra"] = torch.zeros(1)
    with pytest.raises(ValueError, match="extra"):
        run(states, method)
    del states[1]["extra"], states[1]["table"]
    with pytest.raises(ValueError, match="table"):
        run(states, method)
    states[1]["table"] = torch.zeros(3, 5)
    with pytest.raises(ValueError, match=r"table is \(3, 5\)"):
        run(states, method)


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("mean", {}, "unknown merge method"),
        ("ties", {"base": None}, "give the base"),
        ("dare_ties", {"base": None}, "give the base"),
        ("linear", {"base": None, "sparsify": "magnitude"}, "give the base"),
        ("linear", {"sparsify": "top"}, "unknown sparsification"),
        ("ties", {"sparsify": "magnitude"}, "prunes by itself"),
        ("ties", {"density": 0.0}, "density"),
        ("ties", {"density": 1.1}, "density"),
        ("linear", {"density": 0.5}, "needs sparsify"),
        ("linear", {"weights": [1]}, "as many weights"),
        ("linear", {"weights": [1, -1]}, "negative"),
        ("linear", {"weights": [0, 0]}, "negative"),
        ("linear", {"weights": [1, float("nan")]}, "negative"),
        ("linear", {"t": 0.5}, "t is for slerp"),
        ("slerp", {"t": 1.5}, r"t must be"),
        ("slerp", {"weights": [1, 1]}, "t instead of weights"),
    ],
)
def test_arguments(method, options, message):
    with pytest.raises(ValueError, match=message):
        merge(models(2), method, **({"base": BASE} | options))


def test_number_of_models():
    with pytest.raises(ValueError, match="two or more"):
        run(models(1), "linear")
    with pytest.raises(ValueError, match="two models, not 3"):
        run(models(3), "slerp")
