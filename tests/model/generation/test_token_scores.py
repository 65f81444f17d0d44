"""Log-likelihoods of texts behind one prompt: equal to one pass for each text."""

import pytest
import torch
from transformers import Gemma2Config, MistralConfig

from recbole_recfound.backbone import load_backbone
from recbole_recfound.errors import BackboneError
from recbole_recfound.model.generation import token_scores
from recbole_recfound.model.generation.token_scores import token_log_likelihoods
from tests.tiny_backbone import write_tiny_backbone


@pytest.fixture(scope="module")
def model(tiny_backbone):
    return load_backbone(str(tiny_backbone), torch.device("cpu")).model.eval()


def alone(model, prompt, text):
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([[*prompt, *text]])).logits[0].float().log_softmax(-1)
    return torch.stack([logits[len(prompt) - 1 + place, token] for place, token in enumerate(text)])


PROMPT = [5, 9, 3, 3, 7]
TEXTS = [[4], [8, 2, 6], [1, 1, 1, 1, 9, 4], [8, 2], [3]]


@pytest.mark.parametrize("size", [1, 4, 1024])
def test_equal_to_a_pass_for_each_text(model, size, monkeypatch):
    monkeypatch.setattr(token_scores, "PASS_TOKENS", size)
    found = token_log_likelihoods(model, PROMPT, TEXTS)
    for text, likely in zip(TEXTS, found, strict=True):
        torch.testing.assert_close(likely, alone(model, PROMPT, text), atol=1e-5, rtol=1e-5)


def test_a_text_depends_on_no_other(model):
    expected = token_log_likelihoods(model, PROMPT, TEXTS)
    found = token_log_likelihoods(model, PROMPT, [TEXTS[2], [7, 7, 7], TEXTS[1]])
    torch.testing.assert_close(found[0], expected[2], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found[2], expected[1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("size", [4, 1024])
@pytest.mark.parametrize("family", [MistralConfig, Gemma2Config])
def test_windows_that_hold_the_prompt_and_each_text(tmp_path, monkeypatch, family, size):
    """Not all texts of a row; what a window does not hold is refused."""
    monkeypatch.setattr(token_scores, "PASS_TOKENS", size)
    window = len(PROMPT) + max(map(len, TEXTS))
    folder = write_tiny_backbone(tmp_path, family=family, head_dim=8, sliding_window=window)
    model = load_backbone(str(folder), torch.device("cpu")).model
    for text, likely in zip(TEXTS, token_log_likelihoods(model, PROMPT, TEXTS), strict=True):
        torch.testing.assert_close(likely, alone(model, PROMPT, text), atol=1e-5, rtol=1e-5)
    with pytest.raises(BackboneError, match=f"see the last {window} states alone, but up to {window + 1} are read"):
        token_log_likelihoods(model, [*PROMPT, 4], TEXTS)
