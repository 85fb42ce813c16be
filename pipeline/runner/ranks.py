"""One command in many processes, as torchrun starts them."""

import logging
import os
from collections.abc import Callable

from pipeline.core.errors import EXIT_DATA_ERRORS, EXIT_INTERRUPTED, VoxlineError

# torchrun sets it; absent or 1, this process works alone.
WORLD_SIZE = "WORLD_SIZE"


def run_in_ranks(command: Callable[[], int]) -> int:
    """Run a command, or in all processes but the first take part in the trainings of the first.

    Args:
        command: Does everything: reads, trains, writes.

    Returns:
        Its exit status, in every process.

    Raises:
        UsageError: If the processes cannot reach each other.
        TrainingError: If another process has ended.
    """
    if int(os.environ.get(WORLD_SIZE, "1")) == 1:
        return command()
    # torch takes seconds to import, and one process alone may not need it.
    from pipeline.train.ranks import joined_ranks
    from pipeline.train.stage import follow_leader

    with joined_ranks() as ranks:
        if not ranks.is_leader:
            # Everything worth saying is said by the first.
            logging.getLogger("pipeline").setLevel(logging.WARNING)
            return follow_leader(ranks)
        status = EXIT_DATA_ERRORS
        try:
            status = command()
        except VoxlineError as error:
            status = error.exit_status
            raise
        except KeyboardInterrupt:
            status = EXIT_INTERRUPTED
            raise
        finally:
            if ranks.can_be_told:
                ranks.tell("end", status)
        return status
