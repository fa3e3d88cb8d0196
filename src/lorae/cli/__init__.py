"""The command `lorae`."""

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    from lorae.cli.console import main

    return main(arguments)
