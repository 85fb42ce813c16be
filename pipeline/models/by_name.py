"""Classes of MONAI by their name: networks and losses of `kind: monai`, and nothing else."""

import inspect
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from torch import nn

from pipeline.core.errors import ConfigError, did_you_mean

# What constructors raise on values they cannot use; missing packages are ImportErrors.
REFUSALS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)


def network_class(name: str) -> type[nn.Module]:
    """Find a network.

    Args:
        name: Such as "AttentionUnet".

    Returns:
        The class of that name in monai.networks.nets.

    Raises:
        ConfigError: If there is none.
    """
    # monai takes 8 s and 0.5 GB to import.
    import monai.networks.nets

    return _find(name, monai.networks.nets, where="train.network.name")


def loss_class(name: str) -> type[nn.Module]:
    """Find a loss.

    Args:
        name: Such as "DiceCELoss".

    Returns:
        The class of that name in monai.losses.

    Raises:
        ConfigError: If there is none.
    """
    import monai.losses

    return _find(name, monai.losses, where="train.loss.name")


def checked_arguments(
    called: type[nn.Module], args: Mapping[str, Any], known: Mapping[str, Any], where: str
) -> dict[str, Any]:
    """Put the arguments of a class together.

    Args:
        called: The class.
        args: What the user gave; every name must be one of the class.
        known: What is known without asking; used where the class takes it and the user is silent.
        where: Configuration key of `args`, for messages.

    Returns:
        Arguments by name, none unknown and none missing.

    Raises:
        ConfigError: If an argument is unknown, or one without default is missing.
    """
    parameters = inspect.signature(called).parameters
    kinds = {parameter.kind for parameter in parameters.values()}
    accepted = [
        name
        for name, parameter in parameters.items()
        if parameter.kind in {parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY}
    ]
    for name in args:
        if name not in accepted and inspect.Parameter.VAR_KEYWORD not in kinds:
            raise ConfigError(
                f"{called.__name__} has no argument '{name}'",
                where=where,
                fix=did_you_mean(name, accepted),
            )
    filled = {name: value for name, value in known.items() if name in accepted}
    arguments = {**filled, **args}
    required = [name for name in accepted if parameters[name].default is inspect.Parameter.empty]
    if missing := [name for name in required if name not in arguments]:
        raise ConfigError(
            f"{called.__name__} needs {', '.join(missing)}",
            where=where,
            fix=f"set {', '.join(f'{where}.{name}' for name in missing)}",
        )
    return arguments


def construct(called: type[nn.Module], arguments: Mapping[str, Any], where: str) -> nn.Module:
    """Call a class of MONAI with arguments a user may have chosen.

    Args:
        called: The class.
        arguments: From `checked_arguments`.
        where: Configuration key, for messages.

    Returns:
        The module.

    Raises:
        ConfigError: If the class refuses their values.
    """
    try:
        return called(**arguments)
    except REFUSALS as error:
        raise ConfigError(
            f"{called.__name__} cannot be built: {first_line(error)}",
            where=where,
            fix="change its arguments, see the documentation of MONAI"
            if not isinstance(error, ImportError)
            else "install the missing package with pip",
        ) from error


def first_line(error: BaseException) -> str:
    """What an error of another library says, in one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _find(name: str, module: ModuleType, *, where: str) -> type[nn.Module]:
    classes = {
        key: value
        for key, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, nn.Module) and not key.startswith("_")
    }
    if name not in classes:
        raise ConfigError(
            f"'{name}' is no class of {module.__name__} that torch can train",
            where=where,
            fix=did_you_mean(name, classes),
        )
    return classes[name]
