"""`python -m doodlelib`: the command line, see `cli.main`."""

import sys

from doodlelib.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
