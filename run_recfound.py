"""Train RecFound (or a model of RecBole) on a data set and compare it with RecBole's models; see `--help`."""

import sys

from recbole_recfound.cli import main

if __name__ == "__main__":
    sys.exit(main(["run", *sys.argv[1:]]))
