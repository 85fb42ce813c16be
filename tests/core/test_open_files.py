"""More open files than a process usually gets."""

import subprocess
import sys
import textwrap

import pytest

from pipeline.core.errors import UsageError
from pipeline.core.open_files import allow_open_files

SCRIPT = """
import resource
from pipeline.core.open_files import allow_open_files
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 2000))
allow_open_files(1000)
files = [open({file!r}) for _ in range(1000)]
print(len(files), resource.getrlimit(resource.RLIMIT_NOFILE)[1])
"""


def test_the_limit_is_raised_as_far_as_needed(tmp_path):
    (tmp_path / "file").touch()
    # In a process of its own: limits that were lowered cannot be raised again.
    script = textwrap.dedent(SCRIPT).format(file=str(tmp_path / "file"))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "1000 2000\n", done.stderr


def test_what_the_system_does_not_allow_is_said():
    with pytest.raises(UsageError, match="this system allows"):
        allow_open_files(1 << 40)
