"""A CSV table that grows row by row, so that a benchmark that was stopped goes on where it was."""

import csv
from collections.abc import Sequence
from pathlib import Path


def read_rows(table: Path) -> list[dict[str, str]]:
    """The rows so far; none if the file is not there yet."""
    if not table.is_file():
        return []
    with table.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def append_row(table: Path, columns: Sequence[str], row: Sequence[object]) -> None:
    """Add a row, below a line of columns if it is the first, and print it."""
    is_new = not table.is_file()
    with table.open("a", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        if is_new:
            writer.writerow(columns)
        writer.writerow(row)
    print(*row, sep="\t", flush=True)
