"""What the records of some files ask: which questions, how many, and which two sets of files share, all in constant memory."""

from collections.abc import Iterator

import numpy as np

from recbole_recfound.data.records.disk_rows import BLOCK, DiskRows


class Questions:
    """Fingerprints of questions, sorted on disk.

    Args:
        fingerprints: uint64 [n], of all records (`records.fingerprint`), in any order; None: of no record.
    """

    def __init__(self, fingerprints: DiskRows | None = None) -> None:
        self._sorted = (fingerprints or DiskRows(np.uint64)).mapped()
        self._sorted.sort()  # in place: numpy takes no second array for it

    def __len__(self) -> int:
        """Records, repeated questions counted."""
        return len(self._sorted)

    def __contains__(self, fingerprint: int) -> bool:
        # As uint64: for a plain number numpy would turn all of them into floats.
        wanted = np.uint64(fingerprint)
        place = self._sorted.searchsorted(wanted)
        return bool(place < len(self._sorted) and self._sorted[place] == wanted)

    def distinct(self) -> int:
        """Different questions."""
        return sum(map(len, self._different()))

    def shared(self, other: "Questions") -> int:
        """Different questions that `other` asks too."""
        found = 0
        for wanted in self._different():
            places = other._sorted.searchsorted(wanted)
            within = places < len(other._sorted)
            found += int((other._sorted[places[within]] == wanted[within]).sum())
        return found

    def _different(self) -> Iterator[np.ndarray]:
        """Each question once, block by block."""
        for start in range(0, len(self._sorted), BLOCK):
            block = self._sorted[start : start + BLOCK]
            first = np.ones(len(block), dtype=bool)
            first[1:] = block[1:] != block[:-1]
            first[0] = start == 0 or block[0] != self._sorted[start - 1]
            yield block[first]
