"""Text for LaTeX tables."""

_SPECIAL = str.maketrans(
    {c: f"\\{c}" for c in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"<": r"\textless{}", ">": r"\textgreater{}"}
)


def escape_latex(text: str) -> str:
    """Text that LaTeX prints as it is."""
    return text.translate(_SPECIAL)
