"""Ids of .item and .user beside those of the interactions."""

import pytest

from recbole_recfound.atomic.match import match_ids
from recbole_recfound.config.configurator import Config
from recbole_recfound.data.split.protocol import Protocol, build_splits, with_side_files
from recbole_recfound.errors import DataError
from recbole_recfound.evaluation.report.table import protocol_line


def _write(tmp_path, ids, column="item_id"):
    path = tmp_path / "shop.item"
    path.write_text(f"{column}:token\ttitle:token_seq\n" + "".join(f"{each}\ttext of {each}\n" for each in ids))
    return path


def test_counts(tmp_path):
    match = match_ids(_write(tmp_path, ["a", "b", "c", "NA"]), "item_id", "items", ["NA", "a", "b", "d", "e", "b"])
    assert str(match) == "shop.item: 2 of 5 items without text, 1 texts without interactions"


def test_a_row_without_a_value_is_no_text(tmp_path):
    path = tmp_path / "shop.item"
    path.write_text("title:token_seq\titem_id:token\tbrand:token\n\ta\t\n \tb\t\nHeat\tc\t\n\td\tMann\n")
    match = match_ids(path, "item_id", "items", ["a", "b", "c", "d", "e"])
    assert str(match) == "shop.item: 3 of 5 items without text, 0 texts without interactions"


@pytest.mark.parametrize(
    ("ours", "theirs", "cause"),
    [
        (["3.0", "4.0"], ["3", "4"], "a decimal '.0'"),
        (["3", "4"], ["3.0", "4.0"], "a decimal '.0'"),
        (["a", "b"], ["a ", "b "], "blanks"),
        (["a", "b"], ['"a"', '"b"'], "quotation marks"),
        (["7", "8"], ["007", "008"], "leading zeros"),
        (["b00x", "b00y"], ["B00X", "B00Y"], "upper and lower case"),
    ],
)
def test_ids_in_two_forms_are_refused_with_the_difference(tmp_path, ours, theirs, cause):
    with pytest.raises(
        DataError, match=rf"none of the 2 items .*such as .* beside .*: without {cause} 2 of 2 would match"
    ):
        match_ids(_write(tmp_path, theirs), "item_id", "items", ours)


def test_few_in_common_are_told_with_examples(tmp_path):
    match = match_ids(_write(tmp_path, ["1", "20.0", "30.0", "40.0"]), "item_id", "items", ["1", "20", "30", "40"])
    assert match.missing == 3
    assert "such as '20', '30', '40' in interactions, beside '20.0'" in str(match)
    assert "without a decimal '.0' 4 of 4 would match" in str(match)


def test_a_column_of_another_name_is_refused(tmp_path):
    with pytest.raises(
        DataError, match="no column 'item_id', which interactions name items by; it has artist_id, title"
    ):
        match_ids(_write(tmp_path, ["a"], column="artist_id"), "item_id", "items", ["a"])


@pytest.mark.parametrize("separator", [",", ";", "|"])
def test_another_separator_is_the_cause(tmp_path, separator):
    path = tmp_path / "shop.item"
    path.write_text(f"item_id:token{separator}title:token_seq\na{separator}A\n")
    with pytest.raises(DataError, match=r"the columns are separated by .*; set field_separator"):
        match_ids(path, "item_id", "items", ["a"])


def test_counts_stand_in_the_protocol(write_dataset):
    header = ["user_id:token", "item_id:token", "timestamp:float", "rating:float"]
    rows = [[f"u{u}", f"i{(u + step) % 7}", 1_600_000_000 + 60 * step, step] for u in range(9) for step in range(6)]
    item = [["item_id:token", "title:token_seq"], *[[f"i{number}", f"Film {number}"] for number in range(3, 9)]]
    path = write_dataset("films", inter=[header, *rows], item=item)
    settings = {"data_path": str(path), "val_interval": {"rating": "[1,inf)"}}
    splits = with_side_files(build_splits(Config("BPR", "films", config_dict=settings)))
    lines = protocol_line(Protocol.of(splits.config, splits).to_json()).splitlines()
    assert lines[1:] == [
        "times in seconds; no user has two interactions at the same time",
        "9 interactions left out by val_interval: {'rating': '[1,inf)'}",
        "films.item: 3 of 7 items without text, 2 texts without interactions",
    ]


def test_a_filter_that_leaves_nothing_is_named(write_dataset):
    header = ["user_id:token", "item_id:token", "timestamp:float", "rating:float"]
    rows = [[f"u{u}", f"i{step}", step, step] for u in range(9) for step in range(6)]
    path = write_dataset("films", inter=[header, *rows])
    for settings, said in (
        ({"val_interval": {"rating": "[100,inf)"}}, r"val_interval: \{'rating': '\[100,inf\)'\} leaves none of 54"),
        ({"user_inter_num_interval": "[100,inf)"}, r"user_inter_num_interval: \[100,inf\).* leaves none of 54"),
    ):
        with pytest.raises(DataError, match=said):
            build_splits(Config("BPR", "films", config_dict={"data_path": str(path), **settings}))
