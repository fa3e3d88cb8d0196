"""`python -m lorae` is the command `lorae`."""

import sys

from lorae.cli import main

if __name__ == "__main__":
    sys.exit(main())
