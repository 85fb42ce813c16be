"""What a training makes of the audit's advice: one line per item, followed or not."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import JsonValue

from pipeline.artifacts import Advice, AdviceItem, Plan, read_artifact
from pipeline.core.config import StrictModel
from pipeline.train.config import TrainConfig


def read_advice(file: Path) -> Advice:
    """The audit's advice; none if the audit left none.

    Args:
        file: `advice.json`.

    Raises:
        MissingInputError: If the file is damaged.
    """
    if not file.is_file():
        return Advice(items=())
    return read_artifact(file, Advice, made_by="audit")


def answer_advice(advice: Advice, config: TrainConfig, plan: Plan) -> tuple[str, ...]:
    """Say of every item that names settings whether this training follows it.

    Nothing is changed here: what a plan leaves open (mirroring, spacing) it already decides by the
    same rules, and a loss is only changed by whoever starts the training.

    Args:
        advice: From the audit.
        config: What the user fixed.
        plan: What was planned.

    Returns:
        Lines for the reasons of the plan.
    """
    return tuple(
        f"{item.check_id} {_answer(item, config, plan)}" for item in advice.items if item.settings
    )


def _answer(item: AdviceItem, config: TrainConfig, plan: Plan) -> str:
    overridden: list[str] = []
    left: list[str] = []
    for key, advised in item.settings.items():
        path = key.split(".")[1:]
        used = _value_used(path, config, plan)
        if _is_same(used, advised):
            continue
        difference = f"{key} is {_shown(used)}, advised is {_shown(advised)}"
        (overridden if _is_set(path, config) else left).append(difference)
    if overridden:
        return f"overridden by the configuration: {'; '.join([*overridden, *left])}"
    if left:
        return (
            f"not taken: {'; '.join(left)} ({item.headline}); "
            "take it with --config WORK/audit/advice.yaml"
        )
    return f"followed: {item.headline}"


def _value_used(path: Sequence[str], config: TrainConfig, plan: Plan) -> object:
    planned: dict[tuple[str, ...], object] = {
        ("mirror_axes",): plan.mirror_axes,
        ("spacing_mm",): plan.preprocessing.spacing_mm,
    }
    if tuple(path) in planned:
        return planned[tuple(path)]
    value: object = config
    for name in path:
        value = getattr(value, name, None)
    return value


def _is_set(path: Sequence[str], config: TrainConfig) -> bool:
    """Whether the user wrote this key, rather than left it at its default."""
    node: object = config
    for name in path:
        if not isinstance(node, StrictModel) or name not in node.model_fields_set:
            return False
        node = getattr(node, name)
    return True


def _is_same(used: object, advised: JsonValue) -> bool:
    if isinstance(used, tuple):
        used = list(used)
    return used == advised


def _shown(value: object) -> str:
    if isinstance(value, tuple | list):
        return f"[{', '.join(_shown(v) for v in value)}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_shown(v)}" for name, v in value.items()) + "}"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
