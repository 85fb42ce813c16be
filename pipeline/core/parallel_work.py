"""The work on one case, as it travels to where it is done, and its result on the way back."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from pipeline.core.errors import DataError, VoxlineError

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Done(Generic[Result]):
    """An outcome on its way back from where the work was done.

    Args:
        result: What the function returned, None if it failed.
        error: Why it failed.
        elapsed_s: Time the function took there.
    """

    result: Result | None
    error: VoxlineError | None
    elapsed_s: float


@dataclass(frozen=True)
class Guarded(Generic[Item, Result]):
    """Picklable wrapper that turns expected errors into results and takes the time."""

    function: Callable[[Item], Result]

    def __call__(self, item: Item) -> Done[Result]:
        """Do the work of one case; whatever a case can be blamed for comes back as its error."""
        started_at_s = time.perf_counter()
        result: Result | None = None
        error: VoxlineError | None = None
        try:
            result = self.function(item)
        except VoxlineError as refusal:
            error = refusal
        except MemoryError:
            error = DataError(
                "there is not enough memory for this case",
                where=case_name(item),
                fix="use fewer worker processes, or a machine with more memory",
            )
        except Exception as defect:
            # It ends the run: whoever reads the traceback wants to know which case it was.
            defect.add_note(f"while working on case '{case_name(item)}'")
            raise
        return Done(result, error, time.perf_counter() - started_at_s)


def case_name(item: object) -> str:
    """What a case is called in messages and in the journal.

    Args:
        item: A case id; something with a `case_id`, or with a `record` that has one; or a tuple
            that starts with one of these.

    Returns:
        The case id; empty if the item has none.
    """
    if isinstance(item, str):
        return item
    if isinstance(item, tuple):
        return case_name(item[0]) if item else ""
    named = item if hasattr(item, "case_id") else getattr(item, "record", None)
    return str(getattr(named, "case_id", ""))
