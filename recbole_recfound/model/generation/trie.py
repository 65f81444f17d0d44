"""A trie over token sequences, as flat arrays on the device."""

from collections.abc import Sequence

import numpy as np
import torch


class TokenTrie:
    """All texts that may be generated, each followed by the end token.

    The children of node n are the rows `first[n]` to `first[n + 1]` of two flat arrays (CSR), sorted by token. Nodes
    are numbered level by level, so the widest node of each level is known beforehand and no size is read back from the
    device.

    Args:
        texts: token ids of each text, without the end token; none may be empty.
        end: the end token.
        device: where generation runs.

    Raises:
        ValueError: no text, or an empty one.
    """

    def __init__(self, texts: Sequence[Sequence[int]], end: int, device: torch.device) -> None:
        if not texts or not all(len(text) for text in texts):
            raise ValueError("a trie needs at least one text, and none may be empty")
        self.end = end
        tokens, children, self.widths, first = _levels(np.unique(_padded(texts, end), axis=0))
        """Most children of any node of a level."""
        self.first, self.token, self.child = (torch.from_numpy(part).to(device) for part in (first, tokens, children))

    def children(self, nodes: torch.Tensor, level: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the tokens and nodes that may follow.

        Args:
            nodes: [R] nodes of one level.
            level: depth of the nodes; 0 is the root.

        Returns:
            Tokens, child nodes and whether there is such a child, [R, W] each, W the level's widest node.
        """
        width = self.widths[level] if level < len(self.widths) else 1
        start = self.first[nodes].unsqueeze(1)
        places = start + torch.arange(width, device=nodes.device)
        present = places < self.first[nodes + 1].unsqueeze(1)
        places = places.clamp(max=len(self.token) - 1)
        return self.token[places], self.child[places], present

    def step(self, nodes: torch.Tensor, tokens: torch.Tensor, level: int) -> torch.Tensor:
        """Return the nodes to which `tokens` [R] lead from `nodes` [R]; -1 outside of the trie.

        Args:
            nodes: [R] nodes of one level; -1 outside of the trie.
            tokens: [R] token that follows each node.
            level: depth of the nodes; 0 is the root.
        """
        inside = nodes >= 0
        allowed, child, present = self.children(nodes.clamp(min=0), level)
        hit = present & (allowed == tokens.unsqueeze(1)) & inside.unsqueeze(1)
        return torch.where(hit, child, -1).amax(1)


def _padded(texts: Sequence[Sequence[int]], end: int) -> np.ndarray:
    """Return the tokens [texts, longest + 1], each text followed by the end token, then -1."""
    lengths = np.array([len(text) for text in texts])
    rows = np.full((len(texts), int(lengths.max()) + 1), -1, dtype=np.int64)
    rows[np.arange(rows.shape[1]) < lengths[:, None]] = np.concatenate(
        [np.asarray(text, dtype=np.int64) for text in texts]
    )
    rows[np.arange(len(texts)), lengths] = end
    return rows


def _levels(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[int], np.ndarray]:
    """Return the edges of the trie over sorted, distinct rows.

    Returns:
        Token and child of every edge, most children of a node of each level, and the first edge of every node.
    """
    tokens, children, counts, widths = [], [], [], []
    node = np.zeros(len(rows), dtype=np.int64)  # current node of each row
    begin, size = 0, 1  # nodes of this level
    for column in rows.T:
        alive = column >= 0
        # Rows are sorted: a new edge begins where the node or the token differs from the row before.
        pairs = np.stack([node[alive], column[alive]], axis=1)
        new = np.ones(len(pairs), dtype=bool)
        new[1:] = (pairs[1:] != pairs[:-1]).any(1)
        edge = np.cumsum(new) - 1
        counts.append(np.bincount(pairs[new, 0] - begin, minlength=size))
        widths.append(int(counts[-1].max()))
        begin, size = begin + size, int(new.sum())
        tokens.append(pairs[new, 1])
        children.append(begin + np.arange(size))
        node[alive] = begin + edge
    counts.append(np.zeros(size, dtype=np.int64))
    first = np.concatenate([[0], np.cumsum(np.concatenate(counts))])
    return np.concatenate(tokens), np.concatenate(children), widths, first
