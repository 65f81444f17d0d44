"""Elements of a JSON array, split without parsing them, so that a file of any size needs the memory of one element.

Brackets and strings are followed just far enough to find where an element ends. An element that is not JSON is split
off as well as its neighbours allow: the parser of records then says what is wrong with it, and the next one is read.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader
from typing import BinaryIO

_BEGINNING = re.compile(rb"(?:\xef\xbb\xbf)?\s*\[\s*[{\]]")
_MARK = re.compile(rb'["{}\[\],]')
_BETWEEN_BRACKETS = re.compile(rb'(?:[^"{}\[\]]++|"(?:[^"\\\n]++|\\[^\n])*+")++')
_IN_STRING = re.compile(rb'(?:[^"\\\n]++|\\[^\n])*+')
_CLOSED_BY = {ord("}"): ord("{"), ord("]"): ord("[")}
_BLANKS = b" \t\r\n"


class ArrayError(ValueError):
    """The array itself is malformed; the message says what is expected."""


@dataclass(frozen=True)
class Element:
    """One element of an array.

    Attributes:
        line: on which it begins, from 1.
        offset: in bytes from the beginning of the file.
        content: its bytes; the number of bytes of one that is too long; or what is wrong with the array here.
    """

    line: int
    offset: int
    content: bytes | int | ArrayError


def is_array(file: BufferedReader) -> bool:
    """Return whether a file is one array of objects: `[` and then `{` or `]`.

    Args:
        file: opened at its beginning, where it is left; it may be a pipe.
    """
    return _BEGINNING.match(file.peek()) is not None


def split_array(file: BinaryIO, offset: int, max_bytes: int, line: int = 1, block: int = 1 << 18) -> Iterator[Element]:
    """Yield the elements of an array in order.

    Args:
        file: positioned behind the opening bracket, or at an element.
        offset: of this position in the file.
        max_bytes: length of an element whose content is yielded.
        line: number of the line of this position.
        block: bytes read at once.
    """
    splitter = _Splitter(offset, line, max_bytes)
    while not splitter.trailing and (data := file.read(block)):
        yield from splitter.feed(data)
    yield from splitter.finish()


class _Splitter:
    """State of the scan of an array.

    Args:
        offset: of the first byte.
        line: of the first byte.
        max_bytes: length of an element that is buffered.
    """

    def __init__(self, offset: int, line: int, max_bytes: int) -> None:
        self.offset, self.line, self.max_bytes = offset, line, max_bytes
        self.closed = False
        self.trailing = False
        self._after_comma = False
        self._in_string = False
        self._opened = bytearray()
        self._carry = b""
        self._begin: tuple[int, int] | None = None
        self._length = 0
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Element]:
        """Scan the next bytes of the file and yield the elements that end in them."""
        data, self._carry = self._carry + data, b""
        position = 0
        while position < len(data):
            if self.closed:
                yield from self._rest(data[position:])
                return
            if self._in_string:
                position = self._string(data, position)
                if position < 0:
                    return
                continue
            if self._opened and (inside := _BETWEEN_BRACKETS.match(data, position)):
                self._take(inside[0])
                position = inside.end()
                continue
            mark = _MARK.search(data, position)
            end = mark.start() if mark else len(data)
            self._take(data[position:end])
            position = end + 1
            if mark:
                yield from self._mark(data[end : end + 1])

    def finish(self) -> Iterator[Element]:
        """Yield what the end of the file leaves."""
        if self._carry:
            self._take(self._carry)
        if not self.closed:
            yield from self._end_element()
            yield self._error("the array is not closed: got the end of the file, expected ]")

    def _string(self, data: bytes, position: int) -> int:
        """Take the inside of a string; return where the scan continues, or -1 at the end of the data."""
        found = _IN_STRING.match(data, position)
        end = found.end() if found else position
        self._take(data[position:end])
        if end == len(data):
            return -1
        if data[end : end + 1] == b"\\" and end + 1 == len(data):
            self._carry = b"\\"
            return -1
        # A line break ends the string as well: JSON has none inside strings, so its closing quote is missing.
        self._in_string = False
        if data[end : end + 1] == b'"':
            self._take(b'"')
            end += 1
        elif data[end : end + 1] == b"\\":
            self._take(b"\\")
            end += 1
        return end

    def _mark(self, mark: bytes) -> Iterator[Element]:
        if mark == b'"':
            self._take(mark)
            self._in_string = True
        elif mark in b"{[":
            if mark == b"{" and self._is_unclosed():
                yield from self._end_element()
                self._opened.clear()
            self._take(mark)
            self._opened += mark
        elif not self._opened and mark in b",]":
            yield from self._between(mark)
        elif mark == b",":
            self._take(mark)
        else:
            yield from self._close(mark)

    def _is_unclosed(self) -> bool:
        """Return whether an object begins where only a key can be: the record before it lacks its closing bracket."""
        return self._opened.endswith(b"{") and bytes(self._buffer[-64:]).rstrip(_BLANKS).endswith(b",")

    def _close(self, mark: bytes) -> Iterator[Element]:
        opening = self._opened.rfind(_CLOSED_BY[mark[0]])
        if opening < 0 and mark == b"]":
            # No list is open inside the element: this closes the array.
            self._opened.clear()
            yield from self._between(mark)
            return
        self._take(mark)
        if opening >= 0:
            del self._opened[opening:]

    def _between(self, mark: bytes) -> Iterator[Element]:
        """End an element, or the array."""
        missing = self._begin is None and (mark == b"," or self._after_comma)
        yield from self._end_element()
        if missing:
            yield self._error(f"not JSON: got {mark.decode()} where a record is expected")
        self._after_comma = mark == b","
        self.closed = mark == b"]"
        self.offset += 1

    def _end_element(self) -> Iterator[Element]:
        if self._begin is not None:
            line, offset = self._begin
            content = bytes(self._buffer).rstrip(_BLANKS + b",") if self._length <= self.max_bytes else self._length
            yield Element(line, offset, content)
        self._forget()

    def _rest(self, data: bytes) -> Iterator[Element]:
        text = self._skip(data)
        if text and not self.trailing:
            self.trailing = True
            yield self._error("not JSON: got text behind the closing ] of the array, expected the end of the file")

    def _take(self, data: bytes) -> None:
        """Append to the element; blanks before it are skipped."""
        if self._begin is None:
            data = self._skip(data)
            if not data:
                return
            self._begin = (self.line, self.offset)
        if self._length <= self.max_bytes:
            self._buffer += data
        self._length += len(data)
        self.line += data.count(b"\n")
        self.offset += len(data)

    def _skip(self, data: bytes) -> bytes:
        """Skip blanks; return the rest."""
        text = data.lstrip(_BLANKS)
        skipped = len(data) - len(text)
        self.line += data.count(b"\n", 0, skipped)
        self.offset += skipped
        return text

    def _error(self, message: str) -> Element:
        return Element(self.line, self.offset, ArrayError(message))

    def _forget(self) -> None:
        self._begin = None
        self._length = 0
        self._buffer = bytearray()
