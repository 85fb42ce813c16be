"""Outputs of the network that may overlap: from what was written to what is painted."""

from collections.abc import Mapping, Sequence

from pipeline.artifacts import Region
from pipeline.core.errors import ConfigError, did_you_mean
from pipeline.core.task import RegionConfig

_WHERE = "task.regions"


def resolve_regions(
    wanted: Mapping[str, tuple[str, ...] | RegionConfig], class_names: Sequence[str]
) -> tuple[Region, ...]:
    """Decide which class each region paints, and check that every class is painted by one.

    A region paints the class that no later region holds: of whole = [edema, core, enhancing], then
    core = [core, enhancing], whole paints edema.

    Args:
        wanted: Region name to the classes inside it, in painting order: later ones win.
        class_names: Classes of the task.

    Returns:
        The regions in the same order; empty if none are wanted.

    Raises:
        ConfigError: If a class is not known, is painted by no region or by two, or if a region
            leaves no class or several to paint.
    """
    written = {
        name: region if isinstance(region, RegionConfig) else RegionConfig(classes=region)
        for name, region in _without_empty(wanted).items()
    }
    for name, region in written.items():
        _check_names(name, region, class_names)
    names = list(written)
    regions = tuple(
        Region(
            name=name,
            classes=region.classes,
            paints=region.paints or _left_over(name, written, names[place + 1 :]),
        )
        for place, (name, region) in enumerate(written.items())
    )
    if regions:
        _check_painted(regions, class_names)
    return regions


def _without_empty(
    wanted: Mapping[str, tuple[str, ...] | RegionConfig],
) -> Mapping[str, tuple[str, ...] | RegionConfig]:
    empty = [name for name, region in wanted.items() if region == ()]
    if empty:
        raise ConfigError(
            f"region '{empty[0]}' holds no class", where=_WHERE, fix="list the classes inside it"
        )
    return wanted


def _check_names(name: str, region: RegionConfig, class_names: Sequence[str]) -> None:
    for class_name in region.classes:
        if class_name not in class_names:
            raise ConfigError(
                f"region '{name}' holds an unknown class '{class_name}'",
                where=_WHERE,
                fix=did_you_mean(class_name, class_names),
            )
    if region.paints is not None and region.paints not in region.classes:
        raise ConfigError(
            f"region '{name}' paints '{region.paints}', which is not inside it",
            where=_WHERE,
            fix=did_you_mean(region.paints, region.classes),
        )


def _left_over(name: str, written: Mapping[str, RegionConfig], later: Sequence[str]) -> str:
    held = {class_name for other in later for class_name in written[other].classes}
    left = [class_name for class_name in written[name].classes if class_name not in held]
    if len(left) == 1:
        return left[0]
    if left:
        raise ConfigError(
            f"region '{name}' could paint any of {', '.join(left)}: no later region holds them",
            where=_WHERE,
            fix=f"write {name}: {{classes: [...], paints: {left[0]}}}, or add the smaller regions "
            "after it",
        )
    raise ConfigError(
        f"region '{name}' has nothing to paint: later regions hold all of its classes",
        where=_WHERE,
        fix=f"put larger regions first, or write {name}: {{classes: [...], paints: CLASS}}",
    )


def _check_painted(regions: Sequence[Region], class_names: Sequence[str]) -> None:
    painted = [region.paints for region in regions]
    for class_name in class_names:
        painters = [region.name for region in regions if region.paints == class_name]
        if len(painters) > 1:
            raise ConfigError(
                f"class '{class_name}' is painted by several regions: {', '.join(painters)}",
                where=_WHERE,
                fix="let each region paint another class",
            )
        if class_name not in painted:
            raise ConfigError(
                f"class '{class_name}' is painted by no region, so it could never be predicted",
                where=_WHERE,
                fix=f"add a region that paints it, such as {class_name}: [{class_name}], or take "
                "the class out of task.classes",
            )
