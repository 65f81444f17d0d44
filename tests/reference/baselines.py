"""RecBole's baselines as their papers' formulas read: loops and dense matrices in numpy, float64."""

import math

import numpy as np


def item_similarities(counts, shrink):
    """Cosine of two items' columns, dot / (norm * norm + shrink); 0 with itself."""
    items = counts.shape[1]
    similarity = np.zeros((items, items))
    for first in range(items):
        for second in range(items):
            norms = math.sqrt(counts[:, first] @ counts[:, first]) * math.sqrt(counts[:, second] @ counts[:, second])
            if first != second and norms > 0:
                similarity[first, second] = counts[:, first] @ counts[:, second] / (norms + shrink)
    return similarity


def item_knn(counts, similarity, neighbours):
    """A user's score of an item: the sum over its nearest items, as far as the user has them."""
    scores = np.zeros_like(counts)
    for item in range(counts.shape[1]):
        nearest = np.argsort(-similarity[:, item], kind="stable")[:neighbours]
        for user in range(len(counts)):
            scores[user, item] = sum(similarity[near, item] * counts[user, near] for near in nearest)
    return scores


def ease_weights(counts, regularization):
    """Each item's least squares on all others: argmin |x - X b|^2 + lambda |b|^2 with b[item] = 0."""
    items = counts.shape[1]
    weights = np.zeros((items, items))
    for item in range(items):
        others = [other for other in range(items) if other != item]
        inputs = counts[:, others]
        gram = inputs.T @ inputs + regularization * np.eye(len(others))
        weights[others, item] = np.linalg.solve(gram, inputs.T @ counts[:, item])
    return weights


def light_gcn(interactions, users, items, layers):
    """Mean over layers 0..K of (D^-1/2 A D^-1/2)^k E."""
    n_users, n_items = interactions.shape
    adjacency = np.block([[np.zeros((n_users, n_users)), interactions], [interactions.T, np.zeros((n_items, n_items))]])
    degree = adjacency.sum(1)
    scale = np.array([1 / math.sqrt(d) if d else 0.0 for d in degree])
    propagate = scale[:, None] * adjacency * scale[None, :]
    embeddings = [np.concatenate([users, items])]
    for _ in range(layers):
        embeddings.append(propagate @ embeddings[-1])
    mean = sum(embeddings) / len(embeddings)
    return mean[:n_users], mean[n_users:]


def bpr_loss(positive, negative):
    """Mean of -log sigmoid(positive - negative)."""
    return float(np.mean([math.log1p(math.exp(n - p)) for p, n in zip(positive, negative, strict=True)]))


def cross_entropy(scores, target):
    """-log softmax(scores)[target]."""
    return float(np.log(np.exp(scores - scores.max()).sum()) + scores.max() - scores[target])


def gru4rec(weights, items):
    """Scores of the whole catalogue after a user's items: one GRU step for each (no biases), then a linear map."""
    table = weights["item_embedding.weight"]
    size = weights["gru_layers.weight_hh_l0"].shape[1]
    state = np.zeros(size)
    for item in items:
        from_input = weights["gru_layers.weight_ih_l0"] @ table[item]
        from_state = weights["gru_layers.weight_hh_l0"] @ state
        reset, update = (_sigmoid(from_input[part] + from_state[part]) for part in (slice(size), slice(size, 2 * size)))
        new = np.tanh(from_input[2 * size :] + reset * from_state[2 * size :])
        state = (1 - update) * new + update * state
    return table @ (weights["dense.weight"] @ state + weights["dense.bias"])


def sasrec(weights, items, heads, layers):
    """Scores of the whole catalogue after a user's items: the last state of a causal transformer."""
    return weights["item_embedding.weight"] @ _transformer(weights, items, heads, layers, causal=True)[-1]


def bert4rec(weights, items, heads, layers, position=-1):
    """Scores of the whole catalogue for one masked position of a sequence: a bidirectional transformer and a head."""
    state = _transformer(weights, items, heads, layers, causal=False)[position]
    state = _gelu(_linear(weights, "output_ffn", state))
    bias = weights["output_bias"]
    return weights["item_embedding.weight"][: len(bias)] @ _layer_norm(weights, "output_ln", state) + bias


def _transformer(weights, items, heads, layers, causal):
    states = [
        _layer_norm(
            weights,
            "LayerNorm",
            weights["item_embedding.weight"][item] + weights["position_embedding.weight"][position],
        )
        for position, item in enumerate(items)
    ]
    for layer in range(layers):
        attention, feed = (f"trm_encoder.layer.{layer}.{part}" for part in ("multi_head_attention", "feed_forward"))
        mixed = []
        for position, state in enumerate(states):
            visible = states[: position + 1] if causal else states
            read = _attend(weights, attention, state, visible, heads)
            mixed.append(_layer_norm(weights, f"{attention}.LayerNorm", state + read))
        states = []
        for state in mixed:
            inner = _linear(weights, f"{feed}.dense_2", _gelu(_linear(weights, f"{feed}.dense_1", state)))
            states.append(_layer_norm(weights, f"{feed}.LayerNorm", state + inner))
    return states


def _attend(weights, name, state, visible, heads):
    query = _linear(weights, f"{name}.query", state).reshape(heads, -1)
    keys = [_linear(weights, f"{name}.key", other).reshape(heads, -1) for other in visible]
    values = [_linear(weights, f"{name}.value", other).reshape(heads, -1) for other in visible]
    read = np.zeros_like(query)
    for head in range(heads):
        scores = np.array([query[head] @ key[head] for key in keys]) / math.sqrt(query.shape[1])
        shares = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
        read[head] = sum(share * value[head] for share, value in zip(shares, values, strict=True))
    return _linear(weights, f"{name}.dense", read.reshape(-1))


def _linear(weights, name, state):
    return weights[f"{name}.weight"] @ state + weights[f"{name}.bias"]


def _layer_norm(weights, name, state):
    normal = (state - state.mean()) / math.sqrt(state.var() + 1e-12)
    return normal * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def _gelu(state):
    return np.array([x * 0.5 * (1 + math.erf(x / math.sqrt(2))) for x in state])


def _sigmoid(state):
    return 1 / (1 + np.exp(-state))
