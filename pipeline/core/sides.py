"""Sides of the body in class names."""

import re

_CAMEL_CASE = r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+"
SIDE_WORDS = frozenset(("left", "right", "lt", "rt", "lh", "rh"))


def is_lateralized(class_name: str) -> bool:
    """Whether a class name says left or right, as in "kidney_left", "LeftParotid" or "lung-r"."""
    # A chunk with a number, such as the vertebra L1, is one word.
    chunks = re.findall(r"[A-Za-z0-9]+", class_name)
    parts = [[c] if re.search(r"\d", c) else re.findall(_CAMEL_CASE, c) for c in chunks]
    words = [word.lower() for part in parts for word in part]
    return bool(SIDE_WORDS & set(words)) or bool({"l", "r"} & {*words[:1], *words[-1:]})
