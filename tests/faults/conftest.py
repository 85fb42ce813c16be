"""Clean datasets, made and audited once, of which every fault damages a copy."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from fault_builders import run_audit, write_base, write_real_base

Place = Callable[[str], tuple[Path, Path]]

# Real datasets: folder in the shared data, number of cases.
REAL_BASES = {"hippocampus": ("Task04_Hippocampus", 20), "neck": ("OpenKBP_HeadNeck", 12)}


@pytest.fixture(scope="session")
def audited_bases(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Callable[[str], Path]:
    """Folders of clean datasets with their work folders, made when first asked for.

    Ingest and audit of a damaged copy then read only what changed, as users have it.
    """
    made: dict[str, Path] = {}

    def of(name: str) -> Path:
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            data = folder / "Phantoms"
            if name in REAL_BASES:
                source, n_cases = REAL_BASES[name]
                shared: Path = request.getfixturevalue("shared_data")
                write_real_base(shared / source, data, n_cases)
            else:
                write_base(name, data)
            run_audit(data, folder / "work")
            made[name] = folder
        return made[name]

    return of


@pytest.fixture
def place(audited_bases: Callable[[str], Path], tmp_path: Path) -> Place:
    """A copy of a clean dataset and of its work folder, by the name of the base."""

    def of(name: str) -> tuple[Path, Path]:
        folder = Path(shutil.copytree(audited_bases(name), tmp_path / name))
        return folder / "Phantoms", folder / "work"

    return of
