"""Names and values in the form that MLflow accepts."""

import re

# Tags and groups that this package gives and reads.
STAGE_TAG = "stage"
PIPELINE = "pipeline"
PICTURES = "pictures"
HEADLINE_TAG = "voxline.headline"
KEY_TAG = "voxline.key"
PROCESS_TAG = "voxline.process"
HEARTBEAT_TAG = "voxline.heartbeat"

# Tags that MLflow's UI reads.
PARENT_TAG = "mlflow.parentRunId"
COLOR_TAG = "mlflow.runColor"
DESCRIPTION_TAG = "mlflow.note.content"
TABLES_TAG = "mlflow.loggedArtifacts"

# Limits of MLflow's API, in characters.
MAX_NAME_LENGTH = 250
MAX_PARAM_LENGTH = 6000
MAX_TAG_LENGTH = 8000
MAX_DIGEST_LENGTH = 36
MAX_DATASET_NAME_LENGTH = 500

_NOT_ALLOWED = re.compile(r"[^\w.\- :/]")
_NOT_ALLOWED_IN_PICTURES = re.compile(r"[^a-zA-Z0-9_\-./ ]")


def clean_name(name: str) -> str:
    """Make a metric, parameter or tag name acceptable; names that already are stay as they are.

    "/" groups; what MLflow rejects, such as "@ ( ) [ ]", becomes "_"; empty and dotted groups go.

    Args:
        name: Any text.

    Returns:
        1 to 250 characters.
    """
    groups = (_NOT_ALLOWED.sub("_", part).strip(" ") for part in name.split("/"))
    kept = "/".join(part for part in groups if part.strip(".") != "")
    return kept[:MAX_NAME_LENGTH].rstrip("/ ") or "unnamed"


def clean_picture_key(key: str) -> str:
    """Make the key of a picture series acceptable: ASCII, and in a section of the UI of its own."""
    name = clean_name(_NOT_ALLOWED_IN_PICTURES.sub("_", key)).replace("/", " ")
    return f"{PICTURES}/{name}"
