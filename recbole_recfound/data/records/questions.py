"""Questions of records: membership, number and overlap of two sets of files, in constant memory."""

from collections.abc import Iterator

import numpy as np

from recbole_recfound.data.records.disk_rows import BLOCK, DiskRows


class Questions:
    """Fingerprints of questions, sorted on disk.

    Args:
        fingerprints: uint64 [n] of all records (`records.fingerprint`), in any order; None for no record.
    """

    def __init__(self, fingerprints: DiskRows | None = None) -> None:
        self._sorted = (fingerprints or DiskRows(np.uint64)).mapped()
        self._sorted.sort()  # in place: numpy takes no second array for it

    def __len__(self) -> int:
        """Return the number of records, repeated questions included."""
        return len(self._sorted)

    def __contains__(self, fingerprint: object) -> bool:
        # As uint64: for a plain number numpy would turn all of them into floats.
        value = np.uint64(fingerprint)  # type: ignore[arg-type]  # an int; a container takes any object
        index = self._sorted.searchsorted(value)
        return bool(index < len(self._sorted) and self._sorted[index] == value)

    def distinct(self) -> int:
        """Return the number of distinct questions."""
        return sum(map(len, self._distinct()))

    def shared(self, other: "Questions") -> int:
        """Return the number of distinct questions that `other` has as well."""
        count = 0
        for block in self._distinct():
            indices = other._sorted.searchsorted(block)
            within = indices < len(other._sorted)
            count += int((other._sorted[indices[within]] == block[within]).sum())
        return count

    def _distinct(self) -> Iterator[np.ndarray]:
        """Yield each question once, block by block."""
        for start in range(0, len(self._sorted), BLOCK):
            block = self._sorted[start : start + BLOCK]
            first = np.ones(len(block), dtype=bool)
            first[1:] = block[1:] != block[:-1]
            first[0] = start == 0 or block[0] != self._sorted[start - 1]
            yield block[first]
