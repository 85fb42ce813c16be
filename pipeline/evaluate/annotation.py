"""What nobody drew in the reference of a case: missing there is not background."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Unannotated:
    """What is known about the annotation of one case.

    Args:
        listed: Classes that were not drawn in it.
        if_absent: Classes that were not drawn in it if its reference does not show them.
    """

    listed: tuple[str, ...] = ()
    if_absent: tuple[str, ...] = ()

    def among(self, class_names: Sequence[str], *, present: Collection[str]) -> tuple[str, ...]:
        """The classes that nothing can be said about.

        Args:
            class_names: Classes of the task.
            present: Those the reference shows.

        Returns:
            Names in the order of the task.
        """
        absent = {name for name in self.if_absent if name not in present}
        return tuple(name for name in class_names if name in self.listed or name in absent)


EVERYTHING_DRAWN = Unannotated()
