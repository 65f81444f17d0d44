"""The language-model head: logits of given states, as the model itself computes them."""

from __future__ import annotations

from typing import cast

import torch
import transformers
from torch import nn
from transformers import PreTrainedModel

from recbole_recfound.backbone.depth import decode, decoder_of
from recbole_recfound.errors import BackboneError


def head_of(model: nn.Module) -> nn.Linear:
    """Return the language-model head of a causal language model."""
    return cast(nn.Linear, cast(PreTrainedModel, model).get_output_embeddings())


def logits_of(model: nn.Module, states: torch.Tensor) -> torch.Tensor:
    """Return the logits of the next token, [..., V], of final states.

    Args:
        model: causal language model.
        states: [..., d] of the last layer, after its norm.
    """
    return scaled_logits(model, head_of(model)(states))


def scaled_logits(model: nn.Module, logits: torch.Tensor) -> torch.Tensor:
    """Return what a model makes of the values of its head: Granite divides them, Cohere multiplies, Gemma bounds.

    Args:
        model: causal language model.
        logits: values of its head, of all tokens or of some.
    """
    config = model.config
    if divisor := getattr(config, "logits_scaling", None):
        logits = logits / divisor
    if factor := getattr(config, "logit_scale", None):
        logits = logits * factor
    if bound := getattr(config, "final_logit_softcapping", None):
        logits = torch.tanh(logits / bound) * bound
    return logits


@torch.no_grad()
def check_logits(model: nn.Module, ids: torch.Tensor) -> None:
    """Check that the logits of given states are the model's own: losses and scores are computed from states.

    Args:
        model: causal language model, without an adapter or with one that is switched off.
        ids: [1, T] tokens.

    Raises:
        BackboneError: they are others.
    """
    decoder = decoder_of(model)
    own = model(input_ids=ids, use_cache=False).logits.float()
    found = logits_of(model, decode(decoder, decoder.embed_tokens(ids))).float()
    if not (own - found).abs().max() <= 1e-2 * own.abs().max():
        name, version = decoder.config.model_type, transformers.__version__
        raise BackboneError(
            f"a {name} model changes its logits in transformers {version} in a way that is not known here: it cannot "
            "write texts; leave generative tasks out or take another backbone"
        )
