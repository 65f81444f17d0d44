"""Domains from fields, buckets and times, against what Python says; and what may not be a domain."""

import datetime

import numpy as np
import pytest
import torch

from recbole_recfound.config.configurator import Config
from recbole_recfound.data.domain import ColumnDomains, build_domains, eval_domains, parse_domain, permuted
from recbole_recfound.data.split.protocol import build_splits
from recbole_recfound.errors import ConfigError, DataError


def splits_of(model, path, dataset="tiny", **settings):
    return build_splits(
        Config(model, dataset, config_dict={"data_path": path, "show_progress": False, "use_gpu": False, **settings})
    )


@pytest.fixture(scope="module")
def splits(tiny_path):
    return splits_of("BPR", tiny_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names no field"),
        (":hour", "names no field"),
        ("age:often", "unknown rule 'often'"),
        ("age:quantile:1", "unknown rule"),
        ("age:quantile:²", "unknown rule"),
        ("age:40/20", "unknown rule"),
        ("age:20/20", "unknown rule"),
        ("age:nan", "unknown rule"),
    ],
)
def test_malformed(text, message):
    with pytest.raises(ConfigError, match=message):
        parse_domain(text)


def test_a_field_of_users_is_read_from_their_file(splits, tiny_path):
    domains = build_domains(parse_domain("occupation"), splits.train_set)
    users = dict(line.split("\t")[0:4:3] for line in (tiny_path / "tiny" / "tiny.user").read_text().splitlines()[1:])
    batch = splits.train_set.inter_feat
    tokens = splits.train_set.id2token("user_id", batch["user_id"].numpy())
    assert [domains.names[number] for number in domains.of(batch).tolist()] == [users[token] for token in tokens]
    assert list(domains.names) == sorted(domains.names)
    assert domains.table[0] == -1


def test_numbers_stored_as_tokens_fall_into_buckets(splits, tiny_path):
    domains = build_domains(parse_domain("age:25/40"), splits.train_set)
    assert domains.names == ("<25", "25-40", ">=40")
    ages = {
        line.split("\t")[0]: int(line.split("\t")[1])
        for line in (tiny_path / "tiny" / "tiny.user").read_text().splitlines()[1:]
    }
    for user, number in zip(splits.train_set.field2id_token["user_id"][1:], domains.table[1:].tolist(), strict=True):
        assert number == (ages[user] >= 25) + (ages[user] >= 40)
    halves = build_domains(parse_domain("age:quantile:2"), splits.train_set)
    counts = torch.bincount(halves.table[1:])
    assert len(counts) == 2 and counts.min() > 0.3 * counts.sum()


@pytest.mark.parametrize("rule", ["hour", "weekday", "month"])
def test_times_against_python(rule):
    seconds = np.concatenate(
        [np.random.default_rng(0).integers(-(10**9), 4 * 10**9, 500), [951782400, 1709164800, 4107542400, 0, -1]]
    )
    found = ColumnDomains("t", (), "t", (), rule).of_values(torch.from_numpy(seconds)).tolist()
    epoch = datetime.datetime(1970, 1, 1)
    for moment, number in zip(seconds.tolist(), found, strict=True):
        time = epoch + datetime.timedelta(seconds=moment)
        assert number == {"hour": time.hour, "weekday": time.weekday(), "month": time.month - 1}[rule], time
    assert ColumnDomains("t", (), "t", (), rule).of_values(torch.tensor([float("nan")])).tolist() == [-1]


def test_quantiles_of_time_come_from_training_rows_alone(splits):
    domains = build_domains(parse_domain("timestamp:quantile:4"), splits.train_set)
    counts = torch.bincount(domains.of(splits.train_set.inter_feat), minlength=4)
    assert len(domains) == 4 and counts.max() <= 1.2 * counts.min() + 2
    train = splits.train_set.inter_feat["timestamp"].double()
    np.testing.assert_allclose(domains.edges, np.unique(np.quantile(train, [0.25, 0.5, 0.75])))
    assert set(domains.of(splits.test_set.inter_feat).tolist()) <= {0, 1, 2, 3}


@pytest.mark.parametrize("normalize_all", [True, False])
def test_times_are_those_of_the_file_though_recbole_normalises_them(write_dataset, normalize_all):
    start = 881250000 // 3600 * 3600 + 1800  # half past: float32 knows no seconds
    moments = {
        (f"u{user}", f"i{(user + step) % 9}"): start + 39_600 * (6 * user + step)
        for user in range(9)
        for step in range(6)
    }
    rows = [[*pair, moment] for pair, moment in moments.items()]
    path = write_dataset("shop", inter=[["user_id:token", "item_id:token", "timestamp:float"], *rows])
    splits = splits_of(
        "BPR", path, "shop", normalize_all=normalize_all, load_col={"inter": ["user_id", "item_id", "timestamp"]}
    )
    for part in (splits.train_set, splits.test_set):
        pairs = zip(
            *(part.id2token(field, part.inter_feat[field].numpy()) for field in ("user_id", "item_id")), strict=True
        )
        told = [datetime.datetime.fromtimestamp(moments[pair], datetime.UTC) for pair in pairs]
        for rule, wanted in (
            ("hour", [t.hour for t in told]),
            ("weekday", [t.weekday() for t in told]),
            ("month", [t.month - 1 for t in told]),
        ):
            domains = build_domains(parse_domain(f"timestamp:{rule}"), splits.train_set)
            assert domains.of(part.inter_feat).tolist() == wanted
        edge = start + 39_600 * 20 + 20_000
        assert build_domains(parse_domain(f"timestamp:{edge}"), splits.train_set).of(part.inter_feat).tolist() == [
            int(t.timestamp() > edge) for t in told
        ]
    quantiles = build_domains(parse_domain("timestamp:quantile:2"), splits.train_set)
    assert start < quantiles.edges[0] < start + 39_600 * 54
    counts = torch.bincount(quantiles.of(splits.train_set.inter_feat))
    assert len(counts) == 2 and abs(int(counts[0] - counts[1])) <= 1


@pytest.mark.parametrize("normalize_all", [True, False])
@pytest.mark.parametrize("step", [1, 0.1, 0.25])
def test_a_number_that_equals_an_edge_is_not_below_it(step, normalize_all, write_dataset):
    """Single precision makes 3.3 a little smaller, and 0.7 of a normalised range."""
    ages = [round(7 + step * number, 2) for number in range(60)]
    rows = [[f"u{number % 6}", number, number, age] for number, age in enumerate(ages)]
    path = write_dataset("aged", inter=[["user_id:token", "item_id:token", "timestamp:float", "age:float"], *rows])
    columns = {"inter": ["user_id", "item_id", "timestamp", "age"]}
    splits = splits_of("BPR", path, "aged", normalize_all=normalize_all, load_col=columns)
    domains = build_domains(parse_domain("age:" + "/".join(map(str, ages[1:]))), splits.train_set)
    for part in (splits.train_set, splits.valid_set, splits.test_set):
        numbers = [int(token) for token in part.id2token("item_id", part.inter_feat["item_id"].numpy())]
        assert domains.of(part.inter_feat).tolist() == numbers


@pytest.mark.parametrize(("per_second", "name"), [(1000, "ms"), (10**6, "us"), (10**9, "ns")])
def test_times_of_every_clock(write_dataset, per_second, name):
    start = 881250000 // 3600 * 3600 + 1800
    steps = [(user, step) for user in range(9) for step in range(6)]
    rows = [
        [f"u{user}", f"i{(user + step) % 9}", (start + 3600 * (6 * user + step)) * per_second] for user, step in steps
    ]
    path = write_dataset(name, inter=[["user_id:token", "item_id:token", "timestamp:float"], *rows])
    train = splits_of("BPR", path, name, load_col={"inter": ["user_id", "item_id", "timestamp"]}).train_set
    hours = build_domains(parse_domain("timestamp:hour"), train).of(train.inter_feat)
    began = start // 3600 % 24
    users = [int(token[1:]) for token in train.id2token("user_id", train.inter_feat["user_id"].numpy())]
    assert len(hours) == 36 and set(hours.tolist()) <= set(range(24))
    for user, step, hour in zip(users, _count_up(users), hours.tolist(), strict=True):
        assert hour == (began + 6 * user + step) % 24


def _count_up(users):
    """Return how often each user came before."""
    seen = dict.fromkeys(users, -1)
    for user in users:
        seen[user] += 1
        yield seen[user]


def test_positions_have_no_hours(write_dataset):
    rows = [[f"u{user}", f"i{(user + step) % 9}", step] for user in range(9) for step in range(6)]
    path = write_dataset("places", inter=[["user_id:token", "item_id:token", "timestamp:float"], *rows])
    train = splits_of("BPR", path, "places", load_col={"inter": ["user_id", "item_id", "timestamp"]}).train_set
    with pytest.raises(ConfigError, match="timestamp:hour: timestamp holds positions, but hour needs seconds"):
        build_domains(parse_domain("timestamp:hour"), train)


PRICED = ["user_id:token", "item_id:token", "rating:float", "timestamp:float", "price:float"]


def _priced(write_dataset):
    """A data set in which every second interaction has no price, and the prices of the others."""
    random = np.random.default_rng(0)
    rows, prices = [], {}
    for user in range(20):
        for step, item in enumerate(random.choice(30, 8, replace=False)):
            prices[f"u{user}", f"i{item}"] = price = round(9 * random.random(), 3) if step % 2 else None
            rows.append(
                [f"u{user}", f"i{item}", 1 + step % 5, 1e9 + 1000 * user + step, "" if price is None else price]
            )
    return write_dataset("priced", inter=[PRICED, *rows]), prices


@pytest.mark.parametrize("normalize_all", [True, False])
@pytest.mark.parametrize(
    ("model", "settings"),
    [
        ("BPR", {}),
        ("SASRec", {}),
        ("FM", {"threshold": {"rating": 3}}),
        ("FM", {"threshold": {"rating": 3}, "numerical_features": ["price"]}),
    ],
    ids=["ranking", "sequences", "clicks", "pairs"],
)
def test_missing_numbers_of_interactions_have_no_domain(model, settings, normalize_all, write_dataset):
    """RecBole fills them with a mean, which is a number like any other."""
    path, prices = _priced(write_dataset)
    columns = {"inter": ["user_id", "item_id", "rating", "timestamp", "price"]}
    splits = splits_of(model, path, "priced", load_col=columns, normalize_all=normalize_all, **settings)
    domains = build_domains(parse_domain("price:quantile:3"), splits.train_set)
    fixed = build_domains(parse_domain("price:3/6"), splits.train_set)

    def expected(part, rows, edges):
        tokens = (part.id2token(field, rows[field].numpy()) for field in ("user_id", "item_id"))
        of_rows = [prices[pair] for pair in zip(*tokens, strict=True)]
        return [-1 if price is None else sum(price >= edge for edge in edges) for price in of_rows], of_rows

    known = [price for price in expected(splits.train_set, splits.train_set.inter_feat, ())[1] if price is not None]
    np.testing.assert_allclose(domains.edges, np.quantile(known, [1 / 3, 2 / 3]), rtol=1e-5)
    for part in (splits.train_set, splits.valid_set, splits.test_set):
        assert part.inter_feat["price"].isfinite().all(), "models read filled numbers"
        assert fixed.of(part.inter_feat).tolist() == expected(part, part.inter_feat, (3, 6))[0]
    batch = next(iter(splits.train_data))
    assert -1 in fixed.of(batch) and fixed.of(batch).tolist() == expected(splits.train_set, batch, (3, 6))[0]


def test_a_field_that_is_not_loaded_is_told_by_the_names_of_the_file(write_dataset):
    path, _ = _priced(write_dataset)
    columns = {"inter": ["user_id", "item_id", "timestamp", "price"]}
    splits = splits_of("BPR", path, "priced", load_col=columns)
    with pytest.raises(ConfigError, match=r"columns loaded from .inter \(user_id, item_id, timestamp, price\)"):
        build_domains(parse_domain("cost:3"), splits.train_set)


def test_fixed_names_and_edges_stay(splits):
    domains = build_domains(parse_domain("gender"), splits.train_set, {"names": ["X", "M"], "edges": []})
    assert domains.names == ("X", "M") and set(domains.table[1:].tolist()) == {-1, 1}
    assert build_domains(
        parse_domain("timestamp:quantile:2"), splits.train_set, {"names": [], "edges": [5.0]}
    ).edges == (5.0,)


def test_token_column_of_interactions(write_dataset):
    rows = [
        [f"u{user}", f"i{(user + step) % 7}", step, ["web", "app"][(user + step) % 2]]
        for user in range(9)
        for step in range(6)
    ]
    path = write_dataset("shop", inter=[["user_id:token", "item_id:token", "timestamp:float", "scene:token"], *rows])
    splits = splits_of("GRU4Rec", path, "shop", load_col={"inter": ["user_id", "item_id", "timestamp", "scene"]})
    domains = build_domains(parse_domain("scene"), splits.train_set)
    assert domains.names == ("app", "web")
    with pytest.raises(ConfigError, match="control: got permuted_domains with scene, a column of .inter"):
        permuted(domains, splits.train_set, 3)  # dealing names out anew would change nothing but the names
    with pytest.raises(ConfigError, match="scene holds tokens, and hour is a rule for times"):
        build_domains(parse_domain("scene:hour"), splits.train_set)
    told = splits.test_set.id2token("scene", splits.test_set.inter_feat["scene"].numpy())
    assert [domains.names[number] for number in domains.of(splits.test_set.inter_feat).tolist()] == list(told)


def test_the_length_of_a_history_is_a_number(tiny_path):
    splits = splits_of("GRU4Rec", tiny_path, MAX_ITEM_LIST_LENGTH=8)
    domains = build_domains(parse_domain("item_length:3/6"), splits.train_set)
    lengths = splits.train_set.inter_feat["item_length"]
    assert torch.equal(domains.of(splits.train_set.inter_feat), (lengths >= 3).long() + (lengths >= 6).long())


def test_a_few_values_that_are_no_numbers_have_no_domain(write_dataset, capsys):
    users = [
        ["user_id:token", "age:token"],
        *[[f"u{user}", "unkonwn" if user == 3 else 20 + user] for user in range(9)],
    ]
    rows = [[f"u{user}", f"i{(user + step) % 7}", step] for user in range(9) for step in range(6)]
    path = write_dataset("shop", inter=[["user_id:token", "item_id:token", "timestamp:float"], *rows], user=users)
    splits = splits_of("BPR", path, "shop")
    table = build_domains(parse_domain("age:25"), splits.train_set).table
    found = {token: int(table[number]) for number, token in enumerate(splits.train_set.field2id_token["user_id"])}
    assert found == {"[PAD]": -1, **{f"u{user}": -1 if user == 3 else int(user >= 5) for user in range(9)}}
    told = capsys.readouterr().out
    assert "domain age:25: 1 of 9 values are not numbers and get no domain, such as 'unkonwn'" in told


def test_what_may_not_be_a_domain(splits, tiny_path, write_dataset):
    for field, message in [
        ("rating", "the target"),
        ("class", "field of items, which would leak the target"),
        ("item_id", "the item to be ranked"),
        ("colour", "no field 'colour' in tiny's .user or .item"),
        ("timestamp", "holds numbers: name edges or a rule"),
        ("age:hour", "rule for times of interactions"),
    ]:
        with pytest.raises(ConfigError, match=message):
            build_domains(parse_domain(field), splits.train_set)
    with pytest.raises(
        DataError, match="occupation:1/2 needs numbers, but (.*) of \\1 values of occupation are not numbers"
    ):
        build_domains(parse_domain("occupation:1/2"), splits.train_set)
    of_clicks = {"threshold": {"rating": 4}, "load_col": {"inter": ["user_id", "item_id", "rating", "timestamp"]}}
    clicks = splits_of("DeepFM", tiny_path, **of_clicks)
    assert len(build_domains(parse_domain("release_year"), clicks.train_set)) > 3
    # Where a click model ranks all items, each of them would be scored in the domain of the row's own item.
    ranked = {"eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full"}, "metrics": ["NDCG"]}
    negatives = {"train_neg_sample_args": {"distribution": "uniform", "sample_num": 1}, "valid_metric": "NDCG@10"}
    ranking = splits_of("DeepFM", tiny_path, **of_clicks, **ranked, **negatives)
    with pytest.raises(ConfigError, match="release_year, a field of items, .* scored on labelled rows"):
        build_domains(parse_domain("release_year"), ranking.train_set)
    with pytest.raises(ConfigError, match="the target"):
        build_domains(parse_domain("label"), clicks.train_set)


def test_a_permutation_deals_the_same_domains_to_others(splits):
    domains = build_domains(parse_domain("gender"), splits.train_set)
    train = splits.train_set
    dealt = permuted(domains, train, 3)
    assert torch.equal(dealt.table.sort().values, domains.table.sort().values)
    assert not torch.equal(dealt.table, domains.table) and dealt.table[0] == -1
    assert torch.equal(permuted(domains, train, 3).table, dealt.table)
    with pytest.raises(ConfigError, match="control: got permuted_domains with timestamp:hour, a column of .inter"):
        permuted(build_domains(parse_domain("timestamp:hour"), splits.train_set), train, 3)


def test_held_out_rows_of_a_user_must_agree(splits):
    domains = build_domains(parse_domain("timestamp:hour"), splits.train_set)
    table = eval_domains(domains, splits.test_set)
    rows = splits.test_set.inter_feat
    assert torch.equal(table[rows["user_id"]], domains.of(rows))
    assert eval_domains(build_domains(parse_domain("gender"), splits.train_set), splits.test_set) is None
    with pytest.raises(ConfigError, match="Hold out one row per user"):
        eval_domains(domains, splits.train_set)


def test_a_value_of_held_out_rows_alone_is_no_domain(write_dataset):
    """It has no training row, so that nothing could be learned for it; its rows get the base's own answer."""
    places = ["x", "y", "x", "y", "x", "only_test"]
    rows = [[f"u{user}", f"i{step}", place, step] for user in range(4) for step, place in enumerate(places)]
    header = ["user_id:token", "item_id:token", "place:token", "timestamp:float"]
    path = write_dataset("placed", inter=[header, *rows])
    columns = {"inter": ["user_id", "item_id", "place", "timestamp"]}
    splits = splits_of(
        "BPR", str(path), "placed", load_col=columns, eval_args={"order": "TO", "split": {"LS": "valid_and_test"}}
    )
    domains = build_domains(parse_domain("place"), splits.train_set)
    assert domains.names == ("x", "y")
    assert domains.of(splits.test_set.inter_feat).unique().tolist() == [-1]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([["uid:token", "job:token"], ["u0", "cook"]], r"placed.user:1: no column 'user_id'; it has uid, job"),
        (
            [["user_id:token", "job:token"], ["u0", "cook"], ["u0", "clerk"]],
            "placed.user:3: user_id 'u0' appears twice",
        ),
    ],
)
def test_a_side_file_that_names_no_user_or_one_twice(write_dataset, rows, message):
    header = ["user_id:token", "item_id:token", "timestamp:float"]
    inter = [header, *([f"u{row % 3}", f"i{row}", row] for row in range(30))]
    path = write_dataset("placed", inter=inter, user=rows)
    splits = splits_of("BPR", str(path), "placed", load_col={"inter": ["user_id", "item_id", "timestamp"]})
    with pytest.raises(DataError, match=message):
        build_domains(parse_domain("job"), splits.train_set)
