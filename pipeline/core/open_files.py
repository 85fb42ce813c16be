"""How many files a process may keep open at once: memory-mapped arrays take one each."""

import resource

from pipeline.core.errors import UsageError

# Logs, libraries, pipes to worker processes.
_OTHER_FILES = 512


def allow_open_files(n_files: int) -> None:
    """Have the system allow so many open files beside the usual ones.

    Systems give a process 1024 unless it asks for more, which it may up to a second limit.

    Args:
        n_files: How many will be kept open at the same time.

    Raises:
        UsageError: If the system does not allow that many.
    """
    n_wanted = n_files + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or n_wanted <= soft:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (n_wanted, hard))
    except (ValueError, OSError):
        raise UsageError(
            f"{n_wanted} files must be open at once, this system allows {hard}",
            where="limit of open files",
            fix=f"run 'ulimit -n {n_wanted}' first, or ask the administrator to raise the limit",
        ) from None
