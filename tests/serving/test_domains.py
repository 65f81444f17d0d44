"""A frozen base with kernels, asked by tokens: the domain that is named decides which kernel answers."""

import pytest
import torch

from recbole_recfound import load_recfound, run_recfound
from recbole_recfound.errors import ConfigError
from tests.small_iak import run_settings, shake


@pytest.fixture(scope="module")
def loaded(tiny_path, tmp_path_factory):
    """Kernels that change their domains, in a base that scores pairs of users and items alone."""
    settings = run_settings(tiny_path, tmp_path_factory.mktemp("runs")) | {
        "base_model": "NeuMF",
        "base_args": {"epochs": 1, "mf_embedding_size": 8, "mlp_embedding_size": 8, "mlp_hidden_size": [8]},
        "kernel_args": {"layer": "input:predict_layer"},
    }
    run = load_recfound(run_recfound("IAK", "tiny", config_dict=settings)["run_dir"])
    shake(run.model)
    for bank in run.model.banks:
        bank.enable(torch.ones(bank.num_domains, dtype=torch.bool))
    return run


def test_recommendations_have_the_scores_of_the_named_domain(loaded):
    user = loaded.known_users()[0]
    had = {loaded.tokens[item] for item in loaded._had_by(loaded._user_id(user)).tolist()}
    items = [token for token in loaded.item_ids if token not in had | set(loaded.cold_items)][:5]
    answers = {}
    for name in ("M", "F", None, "unknown"):
        best = loaded.recommend(user=user, k=5, candidates=items, domains={"gender": name})
        scores = loaded.score([user] * len(best), [token for token, *_ in best], domains={"gender": [name] * len(best)})
        assert [score for *_, score in best] == pytest.approx(scores.tolist(), abs=1e-6)
        answers[name] = dict(zip([token for token, *_ in best], scores.tolist(), strict=True))
    assert answers[None] == answers["unknown"], "the base answers"
    assert answers["M"] != answers["F"] != answers[None] != answers["M"]
    both = loaded.recommend_batch(users=[user] * 2, k=5, candidates=items, domains=["M", "F"])
    for name, best in zip("MF", both, strict=True):
        assert {token: score for token, _, score in best} == pytest.approx(answers[name], abs=1e-6)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([["M"]], r"domains: got \['M'\], expected the name of a domain, or None"),
        ({"gender": [["M"]]}, r"domains: gender: got \['M'\], expected the name of a domain, or None"),
        ([1], "domains: got 1, expected the name of a domain, or None"),
        ({"nope": ["M"]}, "domains: no kernels for nope"),
    ],
    ids=str,
)
def test_names_of_domains_that_are_not_names_are_refused_in_one_line(given, message, loaded):
    user, item = loaded.known_users()[0], next(iter(loaded.item_ids))
    with pytest.raises(ConfigError, match=message) as refused:
        loaded.score([user], [item], domains=given)
    assert "\n" not in str(refused.value)
    with pytest.raises(ConfigError, match=message):
        loaded.recommend_batch(users=[user], domains=given)
