"""Trains RecFound (or a model of RecBole) on a data set and compares it with RecBole's models: `--help` lists every option."""

import sys

from recbole_recfound.cli import main

if __name__ == "__main__":
    sys.exit(main(["run", *sys.argv[1:]]))
