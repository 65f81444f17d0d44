"""Late interaction as one pass through all layers: a block-diagonal mask below, the source/target mask above."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from recbole_recfound.data.behaviour import Pack


def one_pass(model, pack: Pack, tokenise, states: str = "all", pooling: str = "mean") -> torch.Tensor:
    """Return the logits of a pack's targets, [T, C].

    Args:
        model: M6Rec.
        pack: one source with its targets.
        tokenise: returns the token ids of a text.
        states: `all` or `last`.
        pooling: `mean` of each segment or `last`.
    """
    texts, decoder, reader = model.texts.table.texts, model.decoder, model.reader
    prompts = reader.options.prompts()
    found = []
    for target in pack.targets:
        pieces = [(segment, int(kind)) for segment, kind in zip(pack.source.segments, pack.source.kinds, strict=True)]
        source = len(pieces)
        pieces += [(segment, int(kind)) for segment, kind in zip(target, pack.target_kinds, strict=True)]
        ids = [tokenise(texts[segment]) for segment, _ in pieces]
        hidden, segment_of = _below(decoder, reader.depth, ids)
        part_of = [0] * len(prompts)
        rows, places = [prompts], list(range(len(prompts)))
        for number, (_, kind) in enumerate(pieces):
            own = hidden[0, [place for place, segment in enumerate(segment_of) if segment == number]]
            own = own[-1:] if states == "last" else own
            rows.append(own + reader.scale * model.kinds.weight[kind])
            part_of += [int(number >= source)] * len(own)
        places = list(range(len(part_of)))
        hidden = _above(decoder, reader.depth, torch.cat(rows)[None], part_of, places)
        own = hidden[[place for place, part in enumerate(part_of) if part == 1]]
        if pooling == "last":
            read = own[-1:]
        else:
            sizes = [1 if states == "last" else len(piece) for piece in ids[source:]]
            means = {int(kind): part.mean(0) for kind, part in zip(pack.target_kinds, own.split(sizes), strict=True)}
            read = torch.stack([means[kind] for kind in sorted(means)])
        read = (read - model.center) / model.spread
        rows = reader.options.prompts()[-2:]  # the classifier
        if model.readers is not None:
            rows = rows + torch.stack([-model.readers, model.readers], dim=1) / 2  # [K, 2, d]
        found.append((read[:, None] * rows).sum(2).mean(0) / read.shape[1] ** 0.5)
    return torch.stack(found)


def _below(decoder, depth: int, ids: Sequence[list[int]]) -> tuple[torch.Tensor, list[int]]:
    """Return states [1, L, d] after the lower layers: a token sees the earlier ones of its segment."""
    segment_of = [number for number, own in enumerate(ids) for _ in own]
    positions = torch.tensor([[place for own in ids for place in range(len(own))]])
    length = len(segment_of)
    mask = torch.full((1, 1, length, length), torch.finfo(torch.float32).min)
    for query in range(length):
        for key in range(query + 1):
            if segment_of[query] == segment_of[key]:
                mask[0, 0, query, key] = 0
    hidden = decoder.embed_tokens(torch.tensor([[token for own in ids for token in own]]))
    rotary = decoder.rotary_emb(hidden, positions)
    for number in range(depth):
        hidden = decoder.layers[number](hidden, attention_mask=mask, position_ids=positions, position_embeddings=rotary)
    return hidden, segment_of


def _above(decoder, depth: int, hidden: torch.Tensor, part_of: list[int], places: list[int]) -> torch.Tensor:
    """Return states [L, d] after the joint layers: the source sees the source, the target all before it."""
    mask = torch.where(prefix_mask(part_of), 0.0, torch.finfo(torch.float32).min)
    positions = torch.tensor([places])
    rotary = decoder.rotary_emb(hidden, positions)
    for number in range(depth, len(decoder.layers)):
        hidden = decoder.layers[number](hidden, attention_mask=mask, position_ids=positions, position_embeddings=rotary)
    return decoder.norm(hidden)[0]


def prefix_mask(part_of: Sequence[int]) -> torch.Tensor:
    """Return what each place sees, bool [1, 1, L, L]: the source (0) itself, the target (1) all before it."""
    seen = [
        [part == 0 or (part_of[query] == 1 and key <= query) for key, part in enumerate(part_of)]
        for query in range(len(part_of))
    ]
    return torch.tensor(seen)[None, None]
