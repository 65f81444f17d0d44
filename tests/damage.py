"""Damage to saved files, and its opposite: a changed file that a run vouches for."""

import json
from pathlib import Path

from recbole_recfound.runtime.file_digests import digests_in, sealed

DAMAGES = ("truncated", "emptied", "flipped", "zeroed")


def damage(path: Path, how: str) -> None:
    """Change a file as a full disk, a crash or a bad sector does."""
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    if how == "truncated":
        content = content[:middle]
    elif how == "emptied":
        content = bytearray()
    elif how == "flipped":
        content[middle] ^= 1
    else:
        block = content[middle : middle + 64]
        content[middle : middle + 64] = bytes(len(block)) if any(block) else b"\xff" * len(block)
    path.write_bytes(content)


def reseal(folder: Path) -> None:
    """Let a finished run vouch for its files as they are now, as a run that wrote them would."""
    results = json.loads((folder / "results.json").read_text())
    results["files"] = digests_in(folder, [folder / name for name in results["files"]])
    (folder / "results.json").write_text(json.dumps(sealed(results)))
