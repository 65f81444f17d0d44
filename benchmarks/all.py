"""All benchmarks, one after the other, with their ratios in one file.

python -m benchmarks.all --json all.json            (up to 5 minutes each)
python -m benchmarks.all --quick --json all.json    (half a minute each: for what they print)
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

MODULES = (
    "tmole",
    "s2sched",
    "data",
    "padding",
    "evaluation",
    "generation",
    "iak",
    "late_interaction",
    "scaling",
    "serving",
    "quality_per_minute",
)


def main(argv: list[str] | None = None) -> int:
    """Run them; 1 if one missed a mark or failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write all ratios to this file")
    parser.add_argument("--quick", action="store_true", help="a tenth of the time, at sizes that mean little")
    parser.add_argument("--only", default=",".join(MODULES), help="names, separated by commas")
    given = parser.parse_args(argv)
    found: dict[str, object] = {}
    codes = []
    with TemporaryDirectory() as folder:
        for name in given.only.split(","):
            print(f"{name} ...", flush=True)
            file, started = Path(folder) / f"{name}.json", time.perf_counter()
            command = [sys.executable, "-m", f"benchmarks.{name}", "--json", str(file), *["--quick"] * given.quick]
            codes.append(subprocess.run(command, check=False).returncode)
            if file.is_file():
                found[name] = {**json.loads(file.read_text()), "seconds_in_all": time.perf_counter() - started}
            if given.json:  # after each one: nothing that was measured is lost
                given.json.write_text(json.dumps(found, indent=2) + "\n")
    return int(any(codes))


if __name__ == "__main__":
    sys.exit(main())
