"""Lists of names in messages."""

from collections.abc import Sequence


def some_of(names: Sequence[str], n_most: int) -> str:
    """Join names with commas; those beyond the first few are only counted.

    Args:
        names: In the order they are shown.
        n_most: Names to show.

    Returns:
        Such as "a, b and 3 more"; empty for no names.
    """
    n_more = len(names) - n_most
    return ", ".join(names[:n_most]) + (f" and {n_more} more" if n_more > 0 else "")
