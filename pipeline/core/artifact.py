"""The base of everything one stage leaves on disk for another, and reading it back."""

import json
from pathlib import Path
from typing import Literal, TypeVar

from pipeline.core.config import StrictModel, validate_config
from pipeline.core.errors import ConfigError, MissingInputError


class Artifact(StrictModel):
    """Base of the files stages exchange."""

    schema_version: Literal[1] = 1


A = TypeVar("A", bound=Artifact)


def read_artifact(file: Path, model: type[A], *, made_by: str) -> A:
    """Read one of the files above.

    Args:
        file: The JSON file.
        model: What it must hold.
        made_by: Stage that writes it, for the error message.

    Returns:
        The validated artifact.

    Raises:
        MissingInputError: If the file does not exist, is damaged or is of another version.
    """
    fix = f"run 'voxline {made_by}' again"
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        first = "with --data FOLDER " if made_by == "ingest" else ""
        fix = f"run 'voxline {made_by}' {first}first"
        raise MissingInputError(f"{file.name} is not there", where=str(file), fix=fix) from None
    except (OSError, ValueError) as error:
        raise MissingInputError(
            f"{file.name} cannot be read: {error}", where=str(file), fix=fix
        ) from None
    if not isinstance(content, dict):
        raise MissingInputError(f"{file.name} holds no object", where=str(file), fix=fix)
    try:
        return validate_config(model, content, str(file))
    except ConfigError as error:
        raise MissingInputError(
            f"{file.name} is not valid: {error.what}", where=str(file), fix=fix
        ) from None
