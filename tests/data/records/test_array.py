"""Elements of a JSON array: against the json module, for any size of block, and next to broken neighbours."""

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recbole_recfound.data.records.array import ArrayError, is_array, split_array

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.sampled_from('ab"\\{}[],\n\té鞋 '), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('k"\\]}', max_size=3), inner, max_size=3),
    max_leaves=8,
)
records = st.dictionaries(st.text(max_size=3), values, max_size=3)


def _buffered(content):
    return io.BufferedReader(io.BytesIO(content))


def _split(content, block=1 << 16, max_bytes=1 << 20):
    """Return (line, content or message) of each element, whose offset is checked."""
    file = io.BytesIO(content)
    start = content.index(b"[") + 1
    file.seek(start)
    found = []
    for element in split_array(file, start, max_bytes, 1 + content.count(b"\n", 0, start), block):
        if isinstance(element.content, bytes):
            assert content[element.offset :].startswith(element.content)
        if not isinstance(element.content, ArrayError):
            assert element.line == 1 + content.count(b"\n", 0, element.offset)
        found.append((element.line, element.content))
    return found


def _messages(found):
    return [(line, str(content)) for line, content in found if isinstance(content, ArrayError)]


@given(st.lists(records, max_size=5), st.integers(1, 40), st.sampled_from([None, 0, 2]), st.booleans())
def test_any_array_is_split_as_json_reads_it(rows, block, indent, ascii_only):
    content = json.dumps(rows, indent=indent, ensure_ascii=ascii_only).encode()
    assert is_array(_buffered(content)) or not rows
    assert [json.loads(element) for _, element in _split(content, block)] == rows


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"\xef\xbb\xbf \n [{", True),
        (b"[]", True),
        (b"[ \n]", True),
        (b"[1]", False),
        (b"[[{", False),
        (b'{"a": [{}]}', False),
        (b'["a"]', False),
        (b"", False),
    ],
)
def test_a_file_that_begins_like_an_array_of_objects(content, expected):
    file = _buffered(content)
    assert is_array(file) == expected and file.tell() == 0


@pytest.mark.parametrize("block", [1, 7, 1 << 16])
@pytest.mark.parametrize(
    ("broken", "count"),
    [
        (b'{"a": 1', 1),  # no closing bracket
        (b'{"a": [1, 2}', 1),
        (b'{"a": "x}', 1),  # no closing quote
        (b'{"a": "x\\', 1),
        (b'{"a" 1}', 1),
        (b"nothing", 1),
        (b'{"a": 1}}', 1),
        (b'{"a": 1} {"b": 2}', 1),
        (b'{"a": {"b": 1, "c": 2', 1),
    ],
)
def test_a_broken_element_costs_no_other(broken, count, block):
    good = [b'{"n": 1}', b'{"n": [1, {"m": "]"}]}', b'{"n": 3}']
    content = b"[\n" + b",\n".join([good[0], broken, *good[1:]]) + b"\n]\n"
    found = _split(content, block)
    assert [element for _, element in found if element in good] == good
    assert len(found) == 3 + count and found[1][0] == 3


def test_a_broken_record_in_an_array_on_one_line():
    found = _split(b'[{"n": 1}, {"n": 2, {"n": 3}, {"n": [4}, {"n": 5}]')
    assert [element for _, element in found] == [b'{"n": 1}', b'{"n": 2', b'{"n": 3}', b'{"n": [4}', b'{"n": 5}']


@pytest.mark.parametrize(
    ("content", "messages"),
    [
        (b"[{},\n{}", [(2, "the array is not closed: got the end of the file, expected ]")]),
        (b"[{},\n", [(2, "the array is not closed: got the end of the file, expected ]")]),
        (b"[{},\n]", [(2, "not JSON: got ] where a record is expected")]),
        (b"[{},\n,{}]", [(2, "not JSON: got , where a record is expected")]),
        (b"[,{}]", [(1, "not JSON: got , where a record is expected")]),
        (
            b"[{}]\n\n{}\n{}",
            [(3, "not JSON: got text behind the closing ] of the array, expected the end of the file")],
        ),
        (b"[{}]\n \n", []),
    ],
)
@pytest.mark.parametrize("block", [1, 3, 1 << 16])
def test_a_malformed_array(content, messages, block):
    assert _messages(_split(content, block)) == messages


def test_an_element_that_is_too_long_is_counted_and_not_kept():
    found = _split(b'[{"n": 1}, {"n": "' + b"x" * 5000 + b'"}, {"n": 2}]', block=64, max_bytes=100)
    assert [content for _, content in found] == [b'{"n": 1}', 5000 + 9, b'{"n": 2}']


@given(
    st.lists(st.sampled_from([b"{", b"}", b"[", b"]", b'"', b"\\", b",", b"\n", b'{"a": 1}', b" ", b":1"]), max_size=25)
)
def test_any_bytes_are_split_the_same_in_any_blocks(parts):
    content = b"[" + b"".join(parts)
    whole = _split(content)
    for block in (1, 2, 5):
        assert [(line, str(element)) for line, element in _split(content, block)] == [
            (line, str(element)) for line, element in whole
        ]
