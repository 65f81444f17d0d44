"""Records of a file, one at a time: JSON lines, or one JSON array of objects."""

from collections.abc import Iterator
from io import BufferedReader
from typing import BinaryIO

from recbole_recfound.data.records.array import ArrayError, is_array, split_array
from recbole_recfound.data.records.parse import BadRecord, Record, parse_record

MAX_RECORD_BYTES = 1 << 24
_BLOCK = 1 << 13
"""Bytes read at once for a single record of an array."""


def read_records(file: BufferedReader) -> Iterator[tuple[int, int, Record | BadRecord]]:
    """Yield line number, offset and record (or error) of every record of a file.

    A file that begins with `[` and then `{` or `]` is one array; the line of its records is where they begin. At most
    one record is in memory; one longer than `MAX_RECORD_BYTES` is a bad record.

    Args:
        file: opened at its beginning.
    """
    yield from _in_array(file) if is_array(file) else _in_lines(file)


def record_at(file: BinaryIO, offset: int, in_array: bool) -> Record:
    """Return one record.

    Args:
        file: opened for reading.
        offset: of the record, as `read_records` yields it.
        in_array: whether the file is an array.

    Raises:
        BadRecord: there is no record.
    """
    file.seek(offset)
    if not in_array:
        return parse_record(file.readline(MAX_RECORD_BYTES + 1))
    element = next(split_array(file, offset, MAX_RECORD_BYTES, block=_BLOCK), None)
    if element is None or not isinstance(element.content, bytes):
        raise BadRecord("no record here")
    return parse_record(element.content)


def _in_lines(file: BinaryIO) -> Iterator[tuple[int, int, Record | BadRecord]]:
    number, offset = 0, 0
    while line := file.readline(MAX_RECORD_BYTES + 1):
        number += 1
        start, length = offset, len(line)
        too_long = length > MAX_RECORD_BYTES and not line.endswith(b"\n")
        while too_long and not line.endswith(b"\n") and (line := file.readline(MAX_RECORD_BYTES)):
            length += len(line)
        offset += length
        if too_long:
            yield number, start, _too_long(length)
            continue
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
            start += length - len(line)
        if line.strip():
            yield number, start, _parsed(line)


def _in_array(file: BufferedReader) -> Iterator[tuple[int, int, Record | BadRecord]]:
    start = file.peek().index(b"[") + 1
    line = 1 + file.read(start).count(b"\n")
    for element in split_array(file, start, MAX_RECORD_BYTES, line):
        content = element.content
        if isinstance(content, ArrayError):
            yield element.line, element.offset, BadRecord(str(content))
        elif isinstance(content, int):
            yield element.line, element.offset, _too_long(content)
        else:
            yield element.line, element.offset, _parsed(content)


def _parsed(content: bytes) -> Record | BadRecord:
    try:
        return parse_record(content)
    except BadRecord as bad:
        return bad


def _too_long(length: int) -> BadRecord:
    return BadRecord(f"a record of {length:,} bytes; {MAX_RECORD_BYTES:,} are the most")
