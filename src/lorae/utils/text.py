"""Text that people read: tables in aligned columns and lists of names."""

from collections.abc import Iterable, Sequence


def format_table(
    rows: Iterable[Sequence[object]], header: Sequence[object] = (), align: str = "lr"
) -> str:
    """Return a table in aligned columns, two spaces apart.

    Args:
        rows: cells of each row, which are converted to text.
        header: cells of the first line, if there is one.
        align: a letter for each column, "l" for left or "r" for right; the last one holds for all
            columns that follow.

    Example:
        >>> print(format_table([("mnist", 70_000), ("digits", 1_797)], ("set", "samples")))
        set     samples
        mnist     70000
        digits     1797
    """
    cells = [[str(cell) for cell in row] for row in ([header] if header else []) + list(rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    signs = ["<" if letter == "l" else ">" for letter in align.ljust(len(widths), align[-1])]
    line = "  ".join(f"{{:{sign}{w}}}" for sign, w in zip(signs, widths, strict=False))
    return "\n".join(line.format(*row).rstrip() for row in cells)


def shorten_list(names: Sequence[str], most: int = 5) -> str:
    """Return the first few names, and how many more there are.

    Example:
        >>> shorten_list(["a", "b", "c"], most=2)
        'a, b and 1 more'
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def format_duration(seconds: float) -> str:
    """Return a time in seconds, minutes or hours.

    Example:
        >>> format_duration(35.587), format_duration(600), format_duration(9000)
        ('36 s', '10.0 min', '2.5 h')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
