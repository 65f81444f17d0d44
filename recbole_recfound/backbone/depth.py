"""Running only the first layers of a decoder.

The user tower and the text tower of a recommender need a few layers of the LLM, generation needs all of them. A shallow
view shares every module with the full model, so adapters placed in a layer are in the view as well.
"""

import copy
from typing import TYPE_CHECKING, Any, cast

import torch
import transformers
from torch import nn
from transformers import PreTrainedModel

from recbole_recfound.errors import BackboneError

if TYPE_CHECKING:

    class Decoder(PreTrainedModel):
        """Typed view of a decoder, with attributes that `PreTrainedModel` does not declare."""

        config: Any
        embed_tokens: nn.Embedding
        layers: nn.ModuleList
        norm: nn.Module
else:
    Decoder = PreTrainedModel


def decoder_of(model: nn.Module) -> Decoder:
    """Return the decoder of a causal language model, without its head."""
    return cast(Decoder, model.base_model)


@torch.no_grad()
def embedding_norm(decoder: Decoder) -> float:
    """Return the mean norm of token embeddings as the first layer reads them: Gemma's are multiplied when looked up.

    Args:
        decoder: the model without its language-model head.
    """
    embed = decoder.embed_tokens
    ids = torch.arange(len(embed.weight), device=embed.weight.device)
    return float(embed(ids).float().norm(dim=-1).mean())


def first_layers(decoder: Decoder, depth: int) -> Decoder:
    """Return `decoder` cut to its first `depth` layers, sharing all modules and parameters.

    The final norm is kept only when no layer is cut: in between, hidden states are taken as they are.

    Args:
        decoder: the model without its language-model head (`LlamaModel` and its kind).
        depth: number of layers to keep, 1 to the number of layers.

    Raises:
        ValueError: depth out of range.
    """
    view = _view(decoder, depth, slice(depth))
    if view is not decoder:
        view.norm = nn.Identity()
    return view


def last_layers(decoder: Decoder, depth: int) -> Decoder:
    """Return the last `depth` layers of `decoder` and its final norm, sharing all modules and parameters.

    Args:
        decoder: the model without its language-model head.
        depth: number of layers to keep, 1 to the number of layers.

    Raises:
        ValueError: depth out of range.
    """
    return _view(decoder, depth, slice(-depth, None))


def _view(decoder: Decoder, depth: int, kept: slice) -> Decoder:
    """Return a shallow copy of a decoder with `depth` of its layers, or the decoder where that is all of them."""
    layers = decoder.layers
    if not 1 <= depth <= len(layers):
        raise ValueError(f"depth must be between 1 and {len(layers)}, not {depth}")
    if depth == len(layers):
        return decoder
    view = copy.copy(decoder)
    # A shallow copy shares the dict of sub-modules with the original: give the view its own before changing it.
    view._modules = dict(decoder._modules)
    view.config = copy.copy(decoder.config)
    view.config.num_hidden_layers = depth
    if kinds := getattr(decoder.config, "layer_types", None):  # read by a layer's number in the view
        view.config.layer_types = kinds[kept]
    view.layers = nn.ModuleList(list(layers)[kept])
    return view


def decode(
    decoder: PreTrainedModel,
    inputs_embeds: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    causal: bool = True,
    positions: torch.Tensor | None = None,
) -> torch.Tensor:
    """Run a decoder over input vectors.

    Args:
        decoder: full decoder or a view of `first_layers`.
        inputs_embeds: [B, T, d].
        attention_mask: [B, T], 1 for real positions; None when nothing is padded.
        causal: False lets every position see the whole row (embedding prompts).
        positions: [B, T] of packed rows (`Packing.positions`): each time they start again a new sequence begins, which
            sees nothing of the others. Without `attention_mask`.

    Returns:
        Hidden states [B, T, d] of the last layer run.
    """
    # transformers reads sequences off the positions only where there is neither a mask nor a cache.
    output = decoder(
        inputs_embeds=inputs_embeds,
        attention_mask=attention_mask,
        position_ids=positions,
        is_causal=causal,
        use_cache=False,
        return_dict=True,
    )
    return output.last_hidden_state


@torch.no_grad()
def check_bidirectional(decoder: Decoder, ids: torch.Tensor) -> None:
    """Check that the decoder can attend in both directions: a later token must change an earlier state.

    Args:
        decoder: full decoder.
        ids: [1, T] tokens, T at least 2.

    Raises:
        BackboneError: it does not.
    """
    changed = torch.cat([ids[:, :-1], ids[:, :1]], dim=1)
    first, second = (
        decode(decoder, decoder.embed_tokens(row), torch.ones_like(row), causal=False)[:, 0] for row in (ids, changed)
    )
    if torch.equal(first, second):
        name, version = decoder.config.model_type, transformers.__version__
        raise BackboneError(f"a {name} model stays causal in transformers {version}: texts cannot be embedded with it")


@torch.no_grad()
def check_division(decoder: Decoder, depth: int, ids: torch.Tensor) -> None:
    """Check that the first layers and then the last ones do what all of them do.

    A decoder that changes its input before the first layer would do so twice.

    Args:
        decoder: full decoder.
        depth: number of first layers.
        ids: [1, T] tokens.

    Raises:
        BackboneError: they do something else.
    """
    lower, upper = first_layers(decoder, depth), last_layers(decoder, len(decoder.layers) - depth)
    whole = decode(decoder, decoder.embed_tokens(ids))
    divided = decode(upper, decode(lower, decoder.embed_tokens(ids)))
    if not torch.allclose(whole.float(), divided.float(), rtol=1e-2, atol=1e-2):
        name, version = decoder.config.model_type, transformers.__version__
        raise BackboneError(f"a {name} model cannot be divided between its layers in transformers {version}")
