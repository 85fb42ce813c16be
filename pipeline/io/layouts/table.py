"""Tables of paths in the forms people keep them: CSV, TSV, and JSON lists."""

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LIST_SUFFIXES = (".csv", ".tsv", ".json")
# Names of the list inside a JSON object; those of MONAI's and Decathlon's data lists among them.
_LIST_KEYS = ("cases", "training", "train", "validation", "testing", "test")
_SEPARATORS = ",;\t"


@dataclass(frozen=True)
class Table:
    """Rows of a list of paths.

    Args:
        columns: Names of the columns, in order.
        rows: Column name to its entries: one, or several where a JSON list holds several files;
            empty cells are left out.
        description: What else a JSON file says (labels, channel_names).
    """

    columns: tuple[str, ...]
    rows: tuple[Mapping[str, tuple[str, ...]], ...]
    description: Mapping[str, Any] = field(default_factory=dict)


def read_table(file: Path) -> Table | None:
    """Read a list of paths.

    Args:
        file: A .csv, .tsv or .json file.

    Returns:
        The table; None if the file holds something else or cannot be read.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return None
    # No path holds a zero byte; opening one would fail without saying where it came from.
    if not text.strip() or "\0" in text:
        return None
    return _read_json(text) if file.suffix.lower() == ".json" else _read_csv(text)


def _read_csv(text: str) -> Table | None:
    first_line = text.lstrip().splitlines()[0]
    separator = max(_SEPARATORS, key=first_line.count)
    try:
        lines = list(csv.reader(text.splitlines(), delimiter=separator, strict=True))
    except csv.Error:
        return None
    columns = tuple(name.strip() for name in lines[0])
    if len(set(columns)) != len(columns):
        return None
    rows = tuple(
        {name: (cell.strip(),) for name, cell in zip(columns, line, strict=False) if cell.strip()}
        for line in lines[1:]
        if any(cell.strip() for cell in line)
    )
    return Table(columns, rows)


def _read_json(text: str) -> Table | None:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return None
    description: dict[str, Any] = {}
    if isinstance(content, dict):
        # Decathlon lists test images as bare names, which are rows of nothing.
        lists = [
            [item for item in content[key] if isinstance(item, dict)]
            for key in _LIST_KEYS
            if isinstance(content.get(key), list)
        ]
        description = {key: value for key, value in content.items() if key not in _LIST_KEYS}
        content = [item for found in lists for item in found]
    if not isinstance(content, list) or not content:
        return None
    if not all(isinstance(item, dict) for item in content):
        return None
    rows = tuple(_flat(item) for item in content)
    columns = tuple(dict.fromkeys(name for row in rows for name in row))
    return Table(columns, rows, description)


def _flat(item: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """One row: texts and lists of texts; {"image": {"t1": ...}} makes a column per channel."""
    row: dict[str, tuple[str, ...]] = {}
    for name, value in item.items():
        is_images = isinstance(value, Mapping) and name == "image"
        inner = value.items() if is_images else [(name, value)]
        for key, content in inner:
            texts = content if isinstance(content, list) else [content]
            kept = tuple(str(text) for text in texts if isinstance(text, str | int) and text != "")
            if kept:
                row[str(key)] = kept
    return row
