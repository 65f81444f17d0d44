"""The losses of RecFound one example at a time, as the formulas read."""

import torch


def next_item_rows(states, targets, items, temperature, columns=None, past=None, targets_per_row=None):
    """Mean over a row's targets of -log softmax over the catalogue (or `columns` of it) without items read before."""
    rows = []
    for row in range(len(states)):
        losses = []
        for place in range(states.shape[1]):
            target = int(targets[row, place])
            if target == 0:
                continue
            candidates = columns if columns is not None else range(1, len(items))
            read = set(past[row, : place + 1].tolist()) - {target} if past is not None else set()
            scores = {
                item: torch.dot(states[row, place], items[item]) / temperature
                for item in candidates
                if item not in read
            }
            losses.append(torch.logsumexp(torch.stack(list(scores.values())), 0) - scores[target])
        total = torch.stack(losses).sum() if losses else states.new_zeros(())
        rows.append(total / (targets_per_row or max(1, len(losses))))
    return torch.stack(rows)


def info_nce_rows(queries, items, positive, allowed, temperature):
    """-log softmax of the right item among those allowed, query by query."""
    rows = []
    for row, query in enumerate(queries):
        scores = [torch.dot(query, items[column]) / temperature for column in range(len(items)) if allowed[row, column]]
        right = torch.dot(query, items[int(positive[row])]) / temperature
        rows.append(torch.logsumexp(torch.stack(scores), 0) - right)
    return torch.stack(rows)


def answer_rows(states, head, labels):
    """Mean over the answer's tokens of -log p(token | everything before it)."""
    rows = []
    for row in range(len(states)):
        losses = []
        for place in range(1, labels.shape[1]):
            if labels[row, place] != -100:
                losses.append(-torch.log_softmax(head(states[row, place - 1]), -1)[labels[row, place]])
        rows.append(torch.stack(losses).mean() if losses else states.new_zeros(()))
    return torch.stack(rows)
