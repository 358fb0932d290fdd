"""`python -m doodlelib.run`: run notebooks without a browser, see `cli.notebooks`."""

import sys

from doodlelib.cli.notebooks import main

if __name__ == "__main__":
    sys.exit(main())
