"""Which text describes an item, and in which order items stand."""

import pytest

from recbole_recfound.data.text import build_catalogue, read_atomic
from recbole_recfound.data.text.fields import choose_fields, readable, title_field
from recbole_recfound.errors import ConfigError, DataError

LONG = " ".join(["word"] * 30)
ROWS = [
    [
        "item_id:token",
        "release_year:token",
        "movie_title:token_seq",
        "price:float",
        "class:token_seq",
        "description:token_seq",
    ],
    ["b", "1979", "Alien", "3.5", "Horror Sci-Fi", LONG],
    ["a", "1995", "", "1", "", LONG],
    ["c", "", "", "2", "", ""],
]


@pytest.fixture
def item_file(tmp_path):
    path = tmp_path / "films.item"
    path.write_text("".join("\t".join(row) + "\n" for row in ROWS), encoding="utf-8")
    return path


def test_default_fields_are_the_title_then_short_text(item_file):
    table = read_atomic(item_file)
    assert choose_fields(table, "item_id", None, "item_args: text_fields") == ["movie_title", "release_year", "class"]


@pytest.mark.parametrize("title", ["title", "product_name"])
def test_a_brand_is_not_the_title(title, tmp_path):
    path = tmp_path / "shoes.item"
    rows = [f"{item}\tBrand {item % 2}\tred\tShoe {item}" for item in range(6)]
    path.write_text("\n".join([f"item_id:token\tbrand_name:token\tcolour:token\t{title}:token_seq", *rows]) + "\n")
    fields = choose_fields(read_atomic(path), "item_id", None, "item_args: text_fields")
    assert fields == [title, "brand_name", "colour"] and title_field(fields) == title


@pytest.mark.parametrize("other", ["filename", "file", "username"])
def test_a_name_inside_a_word_is_not_a_title(other, tmp_path):
    """`filename` has more different values than `product_name`, of which some shoes share one."""
    path = tmp_path / "shoes.item"
    rows = [f"{item}\timage{item}.jpg\tShoe {item // 2 * 2}" for item in range(6)]
    path.write_text("\n".join([f"item_id:token\t{other}:token\tproduct_name:token_seq", *rows]) + "\n")
    fields = choose_fields(read_atomic(path), "item_id", None, "item_args: text_fields")
    assert fields == ["product_name", other]


def test_of_equal_titles_the_first_wins_unless_it_repeats_its_values(tmp_path):
    path = tmp_path / "shoes.item"
    rows = [f"{item}\tLine {item % 2}\tShoe {item % 5}\tschuh-{item}" for item in range(6)]
    path.write_text("\n".join(["item_id:token\tline_name:token\tproductName:token\turl_name:token", *rows]) + "\n")
    fields = choose_fields(read_atomic(path), "item_id", None, "item_args: text_fields")
    assert fields == ["productName", "url_name", "line_name"]


def test_a_word_that_ends_with_title_is_one_where_there_is_no_better(tmp_path):
    path = tmp_path / "books.item"
    rows = [f"{item}\tcrime\tBook {item}\tnovel" for item in range(6)]
    path.write_text("\n".join(["item_id:token\tgenre:token\tbooktitle:token_seq\tform:token", *rows]) + "\n")
    fields = choose_fields(read_atomic(path), "item_id", None, "item_args: text_fields")
    assert fields == ["booktitle", "genre", "form"] and title_field(["genre", "HTMLTitle"]) == "HTMLTitle"


def test_configured_fields_win(item_file):
    table = read_atomic(item_file)
    assert choose_fields(table, "item_id", ["description", "price"], "item_args: text_fields") == [
        "description",
        "price",
    ]
    with pytest.raises(
        ConfigError, match="item_args: text_fields: field 'genre' is not in .*films.item .it has release_year, movie"
    ):
        choose_fields(table, "item_id", ["genre"], "item_args: text_fields")


def test_names_of_fields():
    assert title_field(["year", "product_name"]) == "product_name"
    assert title_field(["brand_name", "title"]) == "title" and title_field(["brand_name", "Name"]) == "Name"
    assert title_field(["year", "class"]) == "year"
    assert title_field([]) is None
    assert readable("release_year") == "release year"


def test_sentences_and_titles_with_holes(item_file):
    catalogue = build_catalogue(item_file, "item_id", ["b", "x"], ["y"])
    told = {token: (catalogue.title_of(row), catalogue.sentence_of(row)) for token, row in catalogue.row_of.items()}
    assert told["b"] == ("Alien", "Alien, release year: 1979, class: Horror Sci-Fi")
    assert told["a"] == ("1995", "release year: 1995")
    assert told["c"] == ("item c", "item c")
    assert told["x"] == ("item x", "item x")
    assert catalogue.long_values[catalogue.row_of["b"]] == {"description": LONG}


def test_order_is_the_file_then_training_then_the_rest(item_file):
    catalogue = build_catalogue(item_file, "item_id", ["z", "b", "x", "z"], ["y", "x", "a"])
    assert catalogue.tokens == ["b", "a", "c", "z", "x", "y"]
    assert catalogue.pool_size == 5
    other = build_catalogue(item_file, "item_id", ["z", "b", "x", "z"], ["held", "out"])
    assert other.tokens[:5] == catalogue.tokens[:5] and other.pool_size == 5


def test_no_item_file():
    catalogue = build_catalogue(None, "item_id", ["7", "3"])
    assert [catalogue.sentence_of(row) for row in range(2)] == ["item 7", "item 3"]


def test_item_file_without_the_id_column(item_file):
    with pytest.raises(DataError, match="no column 'asin'"):
        build_catalogue(item_file, "asin", [])
