"""The pictures and the viewer volumes of the report, within its size."""

from dataclasses import dataclass, field
from pathlib import Path

from pipeline.artifacts import Finding, Findings
from pipeline.audit.catalog import title_of
from pipeline.audit.gallery import Scene, embed_scene, open_scene, picture_scene
from pipeline.audit.pages.findings import Card, choose_cards, line_of
from pipeline.audit.pages.tables import usable_cases
from pipeline.audit.view import DatasetView
from pipeline.reporting.viewer import ViewerCase

# Together at most two thirds of the 25 MB that a page may have.
MAX_VOLUMES = 8
MAX_VOLUME_BYTES = 14_000_000
_SAMPLE_NOTES = ("least foreground", "median foreground", "most foreground")


@dataclass(frozen=True)
class Sample:
    """A case without errors, shown as it looks.

    Args:
        case_id: The case.
        note: Why this one.
        uri: The picture as a data address.
        viewer_key: Case in the viewer, None if it is not embedded.
    """

    case_id: str
    note: str
    uri: str
    viewer_key: str | None


@dataclass(frozen=True)
class Illustrations:
    """Everything of the report that is drawn from voxels.

    Args:
        cards: By identity (`id`) of the finding they show.
        samples: Cases without errors.
        volumes: Cases for the interactive viewer.
    """

    cards: dict[int, Card]
    samples: tuple[Sample, ...]
    volumes: tuple[ViewerCase, ...]


@dataclass
class _Shelf:
    """Volumes taken so far; refuses what would make the page too big."""

    volumes: list[ViewerCase] = field(default_factory=list)

    def take(self, scene: Scene, finding: Finding | None, title: str) -> str | None:
        """Embed a case if there is room; its key, or None."""
        if len(self.volumes) >= MAX_VOLUMES:
            return None
        volume = embed_scene(scene, finding, title)
        known = {one.key for one in self.volumes}
        if sum(one.n_bytes for one in self.volumes) + volume.n_bytes > MAX_VOLUME_BYTES:
            return None
        if volume.key not in known:
            self.volumes.append(volume)
        return volume.key


def illustrate(
    dataset: DatasetView, findings: Findings, work_root: Path, max_pictures: int
) -> Illustrations:
    """Draw the worst findings and a few ordinary cases.

    Args:
        dataset: All cases.
        findings: Findings with waivers applied.
        work_root: Where the stored volumes are.
        max_pictures: How many pictures at most; 0 embeds no volume either.

    Returns:
        Pictures and volumes; cases without a stored image are left out.

    Raises:
        DataError: If the case store is damaged.
    """
    task = dataset.manifest.task
    records = {r.case_id: r for r in dataset.manifest.cases if r.image is not None}
    drawable = [f for f in findings.findings if f.case_id in records]
    shelf = _Shelf()
    cards: dict[int, Card] = {}
    for finding in choose_cards(drawable, max_pictures):
        record = records[finding.case_id or ""]
        scene = open_scene(record, task, work_root)
        title = f"{finding.check_id} {title_of(finding.check_id)}: {record.case_id}"
        key = shelf.take(scene, finding, title)
        uri = picture_scene(scene, finding)
        cards[id(finding)] = Card(finding, line_of(finding), uri=uri, viewer_key=key)
    samples = []
    for case_id, note in choose_samples(dataset, findings, max_pictures - len(cards)):
        record = records[case_id]
        scene = open_scene(record, task, work_root)
        key = shelf.take(scene, None, f"{note}: {case_id}")
        samples.append(Sample(case_id, note, picture_scene(scene, None), key))
    return Illustrations(cards, tuple(samples), tuple(shelf.volumes))


def choose_samples(dataset: DatasetView, findings: Findings, n_free: int) -> list[tuple[str, str]]:
    """The cases without errors with the least, the median and the most foreground.

    Args:
        dataset: All cases.
        findings: All findings.
        n_free: How many pictures may still be made.

    Returns:
        Case ids with the reason, at most three.
    """
    has_error = {f.case_id for f in findings.findings if f.severity == "error"}
    shown = [
        case
        for case in usable_cases(dataset)
        if sum(case.n_class_voxels) and case.case_id not in has_error
    ]
    if not shown or n_free <= 0:
        return []
    shown.sort(key=lambda case: (sum(case.n_class_voxels), case.case_id))
    # A small dataset may have one case for all three places; it is shown once.
    places = dict(zip((0, len(shown) // 2, len(shown) - 1), _SAMPLE_NOTES, strict=True))
    return [(shown[place].case_id, note) for place, note in list(places.items())[:n_free]]
