"""Folders of empty files: enough for everything that only looks at names."""

from pathlib import Path

from pipeline.io.discover import Choice, DatasetFolder, discover


def touch(folder: Path, *names: str) -> Path:
    """Make empty files, with the folders on the way."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def found(folder: Path, layout: str = "auto", **choice: object) -> DatasetFolder:
    """Discover a folder with wishes about its files."""
    return discover(folder, layout=layout, choice=Choice(**choice))  # type: ignore[arg-type]


def files_of(folder: DatasetFolder) -> dict[str, tuple[list[str], str | None]]:
    """Case id to the paths of images and label, relative to the dataset."""
    return {
        case.case_id: (
            [image.relative_to(folder.root).as_posix() for image in case.images],
            case.label.relative_to(folder.root).as_posix() if case.label else None,
        )
        for case in folder.cases
    }
