"""Family S: is there enough of every class to learn from?"""

from pipeline.artifacts import Finding
from pipeline.audit.config import AuditConfig
from pipeline.audit.view import DatasetView


def check_imbalance(dataset: DatasetView, config: AuditConfig) -> list[Finding]:
    """S02: background voxels per voxel of a class, pooled over all cases."""
    rows = [row for row in dataset.rows if row.n_voxels]
    n_background = sum(row.n_voxels - sum(row.n_class_voxels) for row in rows)
    findings = []
    for position, name in enumerate(dataset.manifest.task.class_names):
        n_class = sum(row.n_class_voxels[position] for row in rows)
        if not n_class or n_background / n_class <= config.imbalance_warning:
            continue
        ratio = n_background / n_class
        is_strong = ratio > config.imbalance_strong
        findings.append(
            Finding(
                check_id="S02",
                severity="warning",
                class_name=name,
                value=ratio,
                threshold=config.imbalance_strong if is_strong else config.imbalance_warning,
                message=f"class '{name}' is {'extremely ' if is_strong else ''}rare: "
                f"{ratio:,.0f} background voxels for each of its own",
                fix="keep foreground oversampling on and use Dice with cross-entropy or focal "
                "loss; plain cross-entropy would learn to ignore it",
            )
        )
    return findings
