"""RecBole's baselines of the long table against independent computations, after the repairs of `compat`."""

import importlib.util
import math
import random
from collections import Counter

import numpy as np
import pytest
import torch
from recbole.data.interaction import Interaction

from recbole_recfound.baseline.recbole import fit
from recbole_recfound.config.configurator import Config
from recbole_recfound.config.models import get_model
from recbole_recfound.data.split.protocol import build_splits
from tests.reference import baselines as reference

LONGEST = 6
SMALL = {
    "MAX_ITEM_LIST_LENGTH": LONGEST,
    "embedding_size": 8,
    "train_batch_size": 64,
    "epochs": 1,
    "show_progress": False,
    "use_gpu": False,
}
TRANSFORMER = {"hidden_size": 8, "inner_size": 16, "n_heads": 2, "n_layers": 2}
SIZES = {"GRU4Rec": {"hidden_size": 5}, "SASRec": TRANSFORMER, "BERT4Rec": TRANSFORMER}
SEQUENTIAL = sorted(SIZES)


@pytest.fixture(autouse=True)
def _seeded():
    """Masks, negatives and orders of rows come from the global generators."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def histories():
    """Items by user, oldest first: 4 to 13 of 18 items, some more popular than others."""
    generator = np.random.default_rng(7)
    shares = np.arange(1, 19) / np.arange(1, 19).sum()
    return {
        f"u{user}": [f"i{item}" for item in generator.choice(18, generator.integers(4, 14), replace=False, p=shares)]
        for user in range(24)
    }


@pytest.fixture(scope="module")
def splits_of(histories, tmp_path_factory):
    """Return a function: the splits of a model, with settings."""
    folder = tmp_path_factory.mktemp("baselines") / "small"
    folder.mkdir()
    rows = [f"{user}\t{item}\t{time}" for user, items in histories.items() for time, item in enumerate(items)]
    (folder / "small.inter").write_text("\n".join(["user_id:token\titem_id:token\ttimestamp:float", *rows]) + "\n")

    def build(name, **settings):
        known = {key: value for key, value in SMALL.items() if key != "embedding_size" or name not in SIZES}
        known |= SIZES.get(name, {}) | {"data_path": str(folder.parent)} | settings
        return build_splits(Config(name, "small", config_dict=known))

    return build


def _model(splits, seed=3):
    """An untrained model in eval mode, its weights large enough that every term counts."""
    model = get_model(splits.config["model"])(splits.config, splits.train_set).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(0.4 * torch.randn(weight.shape, generator=generator))
    return model


def _weights(model):
    return {name: weight.double().numpy() for name, weight in model.state_dict().items()}


def _counts(splits, histories):
    """Training interactions, [users, items] in RecBole's ids."""
    counts = np.zeros((splits.dataset.user_num, splits.dataset.item_num))
    for user, items in histories.items():
        for item in items[:-2]:
            counts[splits.dataset.token2id("user_id", user), splits.dataset.token2id("item_id", item)] += 1
    return counts


def _scores(model, users):
    with torch.no_grad():
        return model.full_sort_predict(Interaction({"user_id": users})).reshape(len(users), -1).numpy()


def _original(module_name):
    """RecBole's own module: a second import under another name, which no repair follows."""
    found = importlib.util.find_spec(module_name)
    spec = importlib.util.spec_from_file_location(f"original_{module_name.rpartition('.')[2]}", found.origin)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_pop_scores_by_counts(splits_of, histories):
    """RecBole's own count of an item is at most the number of batches that have it."""
    splits = splits_of("Pop", train_batch_size=64)
    _, model = fit(splits.config, splits)
    counts = _counts(splits, histories).sum(0)
    assert np.allclose(_scores(model, torch.tensor([1, 2])), counts / counts.max())
    own = _original("recbole.model.general_recommender.pop").Pop(splits.config, splits.train_set)
    for batch in splits.train_data:
        own.calculate_loss(batch)
    assert own.item_cnt.max() <= len(splits.train_data) < counts.max()


@pytest.mark.parametrize(("neighbours", "shrink"), [(3, 0.0), (4, 2.5), (100, 1.0)])
def test_item_knn(splits_of, histories, neighbours, shrink):
    """Ties at the border of the top k are broken arbitrarily: values are compared, not the items."""
    splits = splits_of("ItemKNN", k=neighbours, shrink=shrink)
    model = get_model("ItemKNN")(splits.config, splits.train_set)
    counts, chosen = _counts(splits, histories), model.w.toarray()
    similarity = reference.item_similarities(counts, shrink)
    for item in range(counts.shape[1]):
        strongest = np.sort(similarity[:, item])[::-1][:neighbours]
        assert np.allclose(np.sort(chosen[:, item])[::-1][: len(strongest)], strongest, atol=1e-5)
    assert np.allclose(chosen, np.where(chosen > 0, similarity, 0), atol=1e-5)
    expected = reference.item_knn(counts, chosen, counts.shape[1])
    assert np.allclose(_scores(model, torch.arange(counts.shape[0])), expected, atol=1e-5)
    pairs = Interaction({"user_id": torch.tensor([1, 5]), "item_id": torch.tensor([2, 3])})
    assert np.allclose(model.predict(pairs).numpy(), [expected[1, 2], expected[5, 3]], atol=1e-5)


def test_ease_is_the_regression_of_each_item_on_the_others(splits_of, histories):
    splits = splits_of("EASE", reg_weight=3.0)
    model = get_model("EASE")(splits.config, splits.train_set)
    counts = _counts(splits, histories)
    scores = counts @ reference.ease_weights(counts, 3.0)
    assert np.allclose(_scores(model, torch.arange(len(counts))), scores, atol=1e-5)
    pairs = Interaction({"user_id": torch.tensor([1, 5]), "item_id": torch.tensor([2, 3])})
    assert np.allclose(model.predict(pairs).numpy(), [scores[1, 2], scores[5, 3]], atol=1e-5)


def test_bpr(splits_of):
    splits = splits_of("BPR")
    model = _model(splits)
    users, items = model.user_embedding.weight.detach().numpy(), model.item_embedding.weight.detach().numpy()
    assert np.allclose(_scores(model, torch.arange(len(users))), users @ items.T, atol=1e-5)
    for batch in splits.train_data:
        user, right, wrong = (batch[key].numpy() for key in ("user_id", "item_id", "neg_item_id"))
        scores = (users @ items.T).astype(float)
        expected = reference.bpr_loss(scores[user, right], scores[user, wrong])
        assert model.calculate_loss(batch).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("model", ["BPR", "LightGCN"])
def test_negatives_are_all_items_outside_the_training_history(splits_of, histories, model):
    """Held-out items can be negatives: to leave them out would tell the model which they are."""
    splits = splits_of(model)
    counts = _counts(splits, histories)
    drawn = np.zeros_like(counts)
    for _ in range(60):
        for batch in splits.train_data:
            np.add.at(drawn, (batch["user_id"].numpy(), batch["neg_item_id"].numpy()), 1)
    assert ((drawn[1:, 1:] > 0) == (counts[1:, 1:] == 0)).mean() > 0.99
    assert not drawn[counts > 0].any() and not drawn[:, 0].any()


@pytest.mark.parametrize("layers", [1, 3])
def test_light_gcn(splits_of, histories, layers):
    splits = splits_of("LightGCN", n_layers=layers, reg_weight=0.1)
    model = _model(splits)
    start = [
        model.user_embedding.weight.detach().double().numpy(),
        model.item_embedding.weight.detach().double().numpy(),
    ]
    users, items = reference.light_gcn(_counts(splits, histories), *start, layers)
    assert np.allclose(_scores(model, torch.arange(len(users))), users @ items.T, atol=1e-5)
    batch = next(iter(splits.train_data))
    user, right, wrong = (batch[key].numpy() for key in ("user_id", "item_id", "neg_item_id"))
    scores = users @ items.T
    norms = [np.linalg.norm(start[0][user]), np.linalg.norm(start[1][right]), np.linalg.norm(start[1][wrong])]
    expected = reference.bpr_loss(scores[user, right], scores[user, wrong]) + 0.1 * sum(norms) / len(user)
    assert model.calculate_loss(batch).item() == pytest.approx(expected, rel=1e-5)


def test_light_gcn_ranks_by_the_weights_of_now(splits_of, histories):
    """Scores are computed from stored embeddings; a step of training makes them out of date."""
    splits = splits_of("LightGCN")
    model = _model(splits)
    before = _scores(model, torch.arange(3))
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    model.calculate_loss(next(iter(splits.train_data))).backward()
    optimizer.step()
    start = [
        model.user_embedding.weight.detach().double().numpy(),
        model.item_embedding.weight.detach().double().numpy(),
    ]
    users, items = reference.light_gcn(_counts(splits, histories), *start, 2)
    after = _scores(model, torch.arange(3))
    assert np.allclose(after, users[:3] @ items.T, atol=1e-5) and not np.allclose(before, after, atol=1e-3)


def _reads(name, model, items):
    """Scores of the catalogue after a list of items, by the reference."""
    weights = _weights(model)
    if name == "GRU4Rec":
        return reference.gru4rec(weights, items[-LONGEST:])
    if name == "SASRec":
        return reference.sasrec(weights, items[-LONGEST:], heads=2, layers=2)
    return reference.bert4rec(weights, [*items, model.mask_token][-LONGEST:], heads=2, layers=2)


def _ids(splits, items):
    return [splits.dataset.token2id("item_id", item) for item in items]


@pytest.mark.parametrize("name", SEQUENTIAL)
def test_sequential_models_score_a_users_last_items(splits_of, histories, name):
    """Histories from the file, without padding: shorter than, as long as and longer than a sequence can be."""
    splits = splits_of(name)
    model = _model(splits)
    lengths = set()
    for test, rows in ((0, splits.valid_data), (1, splits.test_data)):
        for interaction, *_ in rows:
            scores = model.full_sort_predict(interaction).detach().numpy()
            assert scores.shape == (len(interaction), splits.dataset.item_num)
            alone = model.predict(interaction).detach().numpy()
            for row, user in enumerate(splits.dataset.id2token("user_id", interaction["user_id"])):
                items = _ids(splits, histories[user][: len(histories[user]) - 2 + test])
                expected = _reads(name, model, items)
                assert np.allclose(scores[row], expected, atol=1e-4)
                assert alone[row] == pytest.approx(expected[int(interaction["item_id"][row])], abs=1e-4)
                lengths.add(len(items))
    assert lengths >= {2, LONGEST - 1, LONGEST, LONGEST + 1}


@pytest.mark.parametrize("name", ["GRU4Rec", "SASRec"])
def test_later_items_change_no_earlier_state(splits_of, name):
    model = _model(splits_of(name))
    items, length = torch.tensor([[3, 5, 2, 7, 0, 0], [3, 5, 9, 4, 8, 1]]), torch.tensor([2, 2])
    first, second = model.forward(items, length)
    assert torch.allclose(first, second, atol=1e-6)
    assert not torch.allclose(*model.forward(items, length + 1), atol=1e-3)


@pytest.mark.parametrize("name", ["GRU4Rec", "SASRec"])
def test_the_loss_is_the_cross_entropy_of_every_training_prefix(splits_of, histories, name):
    splits = splits_of(name)
    model = _model(splits)
    seen = Counter()
    for batch in splits.train_data:
        expected = []
        for user, target, length in zip(
            splits.dataset.id2token("user_id", batch["user_id"]),
            splits.dataset.id2token("item_id", batch["item_id"]),
            batch["item_length"].tolist(),
            strict=True,
        ):
            prefix = histories[user][: histories[user].index(target)]
            assert length == min(len(prefix), LONGEST)
            expected.append(reference.cross_entropy(_reads(name, model, _ids(splits, prefix)), *_ids(splits, [target])))
            seen[user, target] += 1
        assert model.calculate_loss(batch).item() == pytest.approx(np.mean(expected), rel=1e-4)
    assert seen == Counter((user, item) for user, items in histories.items() for item in items[1:-2])


def _masked_rows(batch):
    """User, masked sequence, and (index, item) of its masks."""
    for row, user in enumerate(batch["user_id"].tolist()):
        masks = zip(batch["MASK_INDEX"][row].tolist(), batch["Pos_item_id"][row].tolist(), strict=True)
        items = [item for item in batch["Mask_item_id_list"][row].tolist() if item]
        yield user, items, [(index, item) for index, item in masks if item]


def test_bert4rec_loss_counts_every_mask(splits_of):
    """RecBole's own loss leaves out masks at index 0, the padding of `MASK_INDEX`."""
    splits = splits_of("BERT4Rec", ft_ratio=0.0, mask_ratio=0.5)
    model = _model(splits)
    original = _original("recbole.model.sequential_recommender.bert4rec").BERT4Rec.calculate_loss
    batch = next(iter(splits.train_data))
    losses, places = [], []
    for _, items, masks in _masked_rows(batch):
        for index, item in masks:
            scores = reference.bert4rec(_weights(model), items, heads=2, layers=2, position=index)
            losses.append(reference.cross_entropy(scores, item))
            places.append(index)
    losses, places = np.array(losses), np.array(places)
    assert model.calculate_loss(batch).item() == pytest.approx(losses.mean(), rel=1e-4)
    assert 0 < (places == 0).sum() < len(places)
    assert original(model, batch).item() == pytest.approx(losses[places > 0].mean(), rel=1e-4)


def test_bert4rec_loss_of_a_batch_without_masks_is_no_nan(splits_of):
    """RecBole's own is 0 / 0, on which its trainer stops: "Training loss is nan"."""
    model = _model(splits_of("BERT4Rec"))
    original = _original("recbole.model.sequential_recommender.bert4rec").BERT4Rec.calculate_loss
    none = torch.zeros(2, 1, dtype=torch.long)
    batch = Interaction(
        {"Mask_item_id_list": torch.tensor([[1, 2, 0], [3, 0, 0]])}
        | {key: none for key in ("Pos_item_id", "Neg_item_id", "MASK_INDEX")}
    )
    assert model.calculate_loss(batch).item() == 0 and math.isnan(original(model, batch).item())


def _masked_items(splits, transform):
    """Which (user, item) a transform ever masks in the training rows."""
    masked = set()
    for _ in range(40):
        batch = transform(splits.train_set, splits.train_set[np.arange(len(splits.train_set))])
        masked |= {(user, item) for user, _, masks in _masked_rows(batch) for _, item in masks}
    return masked


@pytest.mark.parametrize("fine_tuning", [0.0, 1.0])
def test_bert4rec_masks_every_training_item(splits_of, histories, fine_tuning):
    """RecBole's own transform masks the history of a row only: the last training item of each user is in none."""
    splits = splits_of("BERT4Rec", ft_ratio=fine_tuning)
    assert splits.train_data.transform.ft_ratio == fine_tuning
    original = _original("recbole.data.transform").MaskItemSequence(splits.config)
    users = {user: splits.dataset.token2id("user_id", user) for user in histories}
    training = {(users[user], item) for user, items in histories.items() for item in _ids(splits, items[:-2])}
    first = {(users[user], item) for user, items in histories.items() for item in _ids(splits, items[:1])}
    last = {(users[user], item) for user, items in histories.items() for item in _ids(splits, items[-3:-2])}
    assert _masked_items(splits, splits.train_data.transform) == (training - first if fine_tuning else training)
    assert _masked_items(splits, original) == training - last


def test_bert4rec_is_fine_tuned_on_what_it_reads_at_test_time(splits_of):
    """A fine-tuning row is the history and a mask for the row's target; the history itself stays without the target."""
    splits = splits_of("BERT4Rec", ft_ratio=1.0)
    model = _model(splits)
    for batch in splits.train_data:
        history, lengths = batch["item_id_list"], batch["item_length"]
        assert torch.equal(model.reconstruct_test_data(history, lengths), batch["Mask_item_id_list"])
        assert torch.equal(batch["MASK_INDEX"][:, -1], lengths.clamp(max=LONGEST - 1))
        assert torch.equal(batch["Pos_item_id"][:, -1], batch["item_id"])
        assert not (history == batch["item_id"][:, None]).any()


def test_bert4rec_reads_a_history_of_one_item(splits_of):
    """RecBole's own drops the oldest item of every history, and all histories of one item have the same scores."""
    model = _model(splits_of("BERT4Rec"))
    original = _original("recbole.model.sequential_recommender.bert4rec").BERT4Rec
    short = torch.zeros(2, LONGEST, dtype=torch.long)
    short[:, 0] = torch.tensor([4, 9])
    lengths = torch.tensor([1, 1])
    assert model.reconstruct_test_data(short, lengths)[:, :3].tolist() == [
        [4, model.mask_token, 0],
        [9, model.mask_token, 0],
    ]
    assert original.reconstruct_test_data(model, short, lengths)[:, :2].tolist() == [[model.mask_token, 0]] * 2
    scores = model.full_sort_predict(Interaction({"item_id_list": short, "item_length": lengths}))
    assert not torch.allclose(scores[0], scores[1], atol=1e-3)


def test_bert4rec_has_room_for_a_mask_in_short_sequences(splits_of):
    """RecBole's own has room for int(mask_ratio * length) masks, 0 of 4 items, which it takes for all masks of a row.

    Rows then differ in length: torch fails, or loses all masks when the first row has none.
    """
    splits = splits_of("BERT4Rec", MAX_ITEM_LIST_LENGTH=4, mask_ratio=0.2, ft_ratio=0.0)
    batch = next(iter(splits.train_data))
    assert batch["MASK_INDEX"].shape[1] == 1 and batch["Pos_item_id"].any()
    original = _original("recbole.data.transform").MaskItemSequence(splits.config)
    with pytest.raises(ValueError, match="expected sequence of length"):
        for _ in range(30):
            original(splits.train_set, splits.train_set[np.arange(len(splits.train_set))])


def test_bert4rec_trains_on_a_user_who_has_had_every_item(splits_of):
    """RecBole's own draws a negative for the mask until the end of time."""
    transform = splits_of("BERT4Rec").train_data.transform
    assert transform._neg_sample([3, 1, 2, 0], 4) in (1, 2, 3)
    assert {transform._neg_sample([3, 1, 0, 0], 4) for _ in range(20)} == {2}
