"""Settings that suit a dataset, each with the numbers it rests on (family T).

Advice changes nothing by itself. It is written as `advice.yaml`, which `voxline train --config`
takes as it is, and as `advice.json`, beside which `train` says what it followed.
"""

import textwrap
from collections.abc import Sequence
from typing import Any

from pydantic import JsonValue, RootModel

from pipeline.artifacts import Advice, AdviceItem
from pipeline.audit.config import AuditConfig
from pipeline.audit.facts import DatasetFacts, describe_dataset
from pipeline.audit.hits import measure_hits, typical_patch
from pipeline.audit.view import DatasetView
from pipeline.core.config import dump_yaml
from pipeline.core.sides import is_lateralized
from pipeline.core.text import some_of
from pipeline.core.workspace import Workspace, write_json, write_text

USUAL_FOREGROUND_FRACTION = 1 / 3
# Centring more patches than this on labels would hide what a normal background looks like.
_MORE_FOREGROUND = (0.5, 0.67)
_TERMS_WITH_CE = frozenset({"dice_ce", "ce"})


def write_advice(dataset: DatasetView, config: AuditConfig, workspace: Workspace) -> Advice:
    """Describe the dataset, draw advice from it and write `advice.json` and `advice.yaml`.

    Args:
        dataset: Cases with their rows and folds.
        config: Thresholds.
        workspace: Work folder with the case store; writes below audit/ only.

    Returns:
        The advice; empty if no case can be used.

    Raises:
        DataError: If the case store is damaged.
    """
    facts = describe_dataset(dataset, config.advice)
    if facts is not None:
        sizes = config.advice.patch_voxels
        patches = [typical_patch(facts.median_shape, facts.spacing_mm, n) for n in sizes]
        patches = list(dict.fromkeys(patches))
        hits = measure_hits(
            dataset, workspace.root, patches, facts.spacing_mm, config.advice.n_hit_cases
        )
        facts = facts.with_hits(hits)
    advice = advise(facts, config)
    folder = workspace.stage_dir("audit")
    write_json(folder / "advice.json", advice)
    write_text(folder / "advice.yaml", render_yaml(advice))
    return advice


def advise(facts: DatasetFacts | None, config: AuditConfig) -> Advice:
    """Draw advice from what is known of a dataset.

    Args:
        facts: The dataset; None if no case can be used.
        config: Thresholds.

    Returns:
        Items T01 to T08 in order.
    """
    if facts is None:
        return Advice(items=())
    loss = _loss(facts, config)
    patches = _patches(facts, config)
    weights = _weights(facts, config, kind=str(loss.settings["train.loss.kind"]), patches=patches)
    return Advice(
        items=(
            loss,
            weights,
            patches,
            _empties(facts),
            _mirroring(facts),
            _normalization(facts),
            _spacing(facts, config),
            _validation(facts),
        ),
        patch_hits=_patch_hits(facts),
    )


def _patch_hits(facts: DatasetFacts) -> dict[str, float]:
    """Class to hit probability for the smallest patch; classes that were not met are left out."""
    if not facts.hits:
        return {}
    pairs = zip(facts.names, facts.hits[0].probabilities, strict=True)
    return {name: round(p, 4) for name, p in pairs if p is not None}


def render_yaml(advice: Advice) -> str:
    """The advice as an experiment file, reasons as comments.

    Args:
        advice: The advice.

    Returns:
        YAML that `voxline train --config` accepts.
    """
    lines = [
        "# Settings drawn from this dataset by the audit. Use them as they are:",
        "#   voxline train --work WORK --config advice.yaml",
        "# or copy the lines you agree with into your own experiment file.",
    ]
    for item in advice.items:
        lines += ["#", f"# {item.check_id} {item.headline}"]
        lines += textwrap.wrap(
            item.reason, width=96, initial_indent="#     ", subsequent_indent="#     "
        )
    nested: dict[str, Any] = {}
    for key, value in advice.settings.items():
        *parents, leaf = key.split(".")
        node = nested
        for name in parents:
            node = node.setdefault(name, {})
        node[leaf] = value
    body = dump_yaml(RootModel[dict[str, JsonValue]](nested)) if nested else ""
    return "\n".join(lines) + "\n" + body


def _is_hard(facts: DatasetFacts, config: AuditConfig) -> tuple[list[str], list[str]]:
    """Classes that are tiny, and classes that many cases do not show."""
    limits = config.advice
    tiny = [n for n, s in zip(facts.names, facts.shares, strict=True) if 0 < s < limits.tiny_share]
    absent = [
        name
        for name, presence in zip(facts.names, facts.presence, strict=True)
        if 0 < presence < 1 - limits.often_absent_share
    ]
    return tiny, absent


def _loss(facts: DatasetFacts, config: AuditConfig) -> AdviceItem:
    tiny, absent = _is_hard(facts, config)
    ratio = facts.imbalance
    numbers = f"The largest class, background included, has {ratio:,.0f} times the voxels of the "
    numbers += f"smallest ({facts.rarest})."
    if tiny or absent:
        kind, headline = "dice_focal", "Dice with focal loss, over the whole batch"
        why = _hard_classes(tiny, absent)
        why += " Focal loss keeps looking at the few voxels that are still wrong."
        why += " If small structures are still missed, try tversky_ce: it punishes misses most."
    elif ratio < config.advice.balanced_ratio and min(facts.presence) >= 1:
        kind, headline = "dice_ce", "Dice with cross-entropy; cross-entropy alone would do as well"
        why = "No class is rare and every case shows every class."
    else:
        kind, headline = "dice_ce", "Dice with cross-entropy, over the whole batch"
        why = "Such imbalance is normal in 3D: Dice evens it out, cross-entropy keeps it stable."
    settings: dict[str, JsonValue] = {"train.loss.kind": kind}
    return AdviceItem(
        check_id="T01", headline=headline, reason=f"{numbers} {why}", settings=settings
    )


def _hard_classes(tiny: Sequence[str], absent: Sequence[str]) -> str:
    parts = []
    if tiny:
        parts.append(f"Tiny: {_listed(tiny)}.")
    if absent:
        parts.append(f"Missing in many cases: {_listed(absent)}.")
    return " ".join(parts)


def _weights(
    facts: DatasetFacts, config: AuditConfig, *, kind: str, patches: AdviceItem
) -> AdviceItem:
    ratio = facts.class_ratio
    numbers = f"The largest class has {ratio:,.1f} times the voxels of the smallest."
    if "train.foreground_fraction" in patches.settings:
        headline = "no class weights: rare classes are oversampled already (T03)"
        why = "Weights on top of that would make the network see them everywhere."
        return AdviceItem(check_id="T02", headline=headline, reason=f"{numbers} {why}")
    if facts.has_regions:
        headline = "no class weights: each region is learned for itself"
        why = "Dice and the sampling of patches by class make up for that."
        return AdviceItem(check_id="T02", headline=headline, reason=f"{numbers} {why}")
    if ratio <= config.advice.balanced_ratio or kind not in _TERMS_WITH_CE:
        headline = "no class weights"
        why = "Dice and the sampling of patches by class make up for that."
        return AdviceItem(check_id="T02", headline=headline, reason=f"{numbers} {why}")
    weights = class_weights(facts, config.advice.max_weight_ratio)
    settings: dict[str, JsonValue] = {"train.loss.class_weights": dict(weights)}
    why = "Median frequency over frequency, at most "
    why += f"{config.advice.max_weight_ratio:g} between the largest and the smallest: plain "
    why += "inverse frequencies would let single voxels rule."
    headline = "weigh classes in the cross-entropy"
    return AdviceItem(
        check_id="T02", headline=headline, reason=f"{numbers} {why}", settings=settings
    )


def class_weights(facts: DatasetFacts, max_ratio: float) -> dict[str, float]:
    """Median-frequency weights, clipped evenly to both sides of 1.

    Args:
        facts: Shares of the classes.
        max_ratio: Largest over smallest weight.

    Returns:
        Weight of background and of every class that occurs.

    Source:
        Eigen & Fergus 2015, median frequency balancing.
    """
    shares = {"background": facts.background_share}
    shares |= {n: s for n, s in zip(facts.names, facts.shares, strict=True) if s > 0}
    ordered = sorted(shares.values())
    middle = len(ordered) // 2
    median = (ordered[middle] + ordered[-middle - 1]) / 2
    limit = max_ratio**0.5
    return {
        name: round(min(limit, max(1 / limit, median / share)), 3)
        for name, share in shares.items()
        if share > 0
    }


def _patches(facts: DatasetFacts, config: AuditConfig) -> AdviceItem:
    tiny, absent = _is_hard(facts, config)
    wanted = config.advice.min_patch_share
    usual = facts.hardest_hit(USUAL_FOREGROUND_FRACTION)
    if usual is None:
        return AdviceItem(check_id="T03", headline="no hit probabilities", reason="No labels.")
    reason = facts.describe_hits()
    chosen = USUAL_FOREGROUND_FRACTION
    if tiny or absent or usual[1] < wanted:
        options = [(f, facts.hardest_hit(f)) for f in _MORE_FOREGROUND]
        chosen = next((f for f, h in options if h and h[1] >= wanted), _MORE_FOREGROUND[0])
    name, share = facts.hardest_hit(chosen) or usual
    reason += f" With {chosen:.0%} of the patches centred on a labelled voxel, at least "
    reason += f"{share:.0%} of the patches of a case with {name} show it."
    if chosen == USUAL_FOREGROUND_FRACTION:
        headline = "the usual third of patches on foreground is enough"
        return AdviceItem(check_id="T03", headline=headline, reason=reason)
    headline = f"centre {chosen:.0%} of the patches on foreground"
    return AdviceItem(
        check_id="T03",
        headline=headline,
        reason=reason,
        settings={"train.foreground_fraction": chosen},
    )


def _empties(facts: DatasetFacts) -> AdviceItem:
    absent = {n: 1 - p for n, p in zip(facts.names, facts.presence, strict=True) if p < 1}
    if not absent:
        return AdviceItem(
            check_id="T04",
            headline="batch Dice, as usual",
            reason="Every case shows every class; patches may still miss some.",
            settings={"train.loss.batch_dice": True},
        )
    worst = max(absent, key=lambda name: absent[name])
    return AdviceItem(
        check_id="T04",
        headline="keep Dice over the whole batch and a term per voxel",
        reason=f"{worst} is missing in {absent[worst]:.0%} of the cases. Dice per patch is then a "
        "constant without gradient; over the batch the other patches still teach the class. If "
        "the structure is there but was not drawn, declare these cases in task.unannotated: "
        "else the network learns to leave out what the labels leave out.",
        settings={"train.loss.batch_dice": True},
    )


def _mirroring(facts: DatasetFacts) -> AdviceItem:
    sided = [name for name in facts.names if is_lateralized(name)]
    if not sided:
        return AdviceItem(
            check_id="T05",
            headline="nothing speaks against mirroring left-right",
            reason="No class name says left or right; the plan decides by device. If a "
            "class means one side of the body all the same, set train.mirror_axes=[].",
        )
    return AdviceItem(
        check_id="T05",
        headline="no left-right mirroring, in training and in prediction",
        reason=f"{_listed(sided)}: a mirrored image would carry the label of the other side.",
        settings={"train.mirror_axes": []},
    )


def _normalization(facts: DatasetFacts) -> AdviceItem:
    parts = []
    for name, modality, low, high in facts.channels:
        if modality == "ct":
            parts.append(f"{name}: clip to about {low:.0f}..{high:.0f}, then foreground mean, SD")
        else:
            parts.append(f"{name}: z-score per image (foreground {low:.3g} to {high:.3g})")
    return AdviceItem(
        check_id="T06",
        headline="normalize by modality, as the plan does",
        reason="; ".join(parts) + ". Limits are the 0.5 and 99.5 % of the labelled voxels.",
    )


def _spacing(facts: DatasetFacts, config: AuditConfig) -> AdviceItem:
    target = " x ".join(f"{s:g}" for s in facts.spacing_mm)
    how = "the coarse axis at its 10th percentile" if facts.is_anisotropic else "the median"
    reason = f"{target} mm is {how} of the cases."
    smallest = facts.smallest_class
    if smallest is None or smallest[1] >= config.advice.min_class_voxels:
        if smallest is not None:
            reason += f" The smallest class, {smallest[0]}, keeps about {smallest[1]:,.0f} voxels."
        headline = "resample to the planned spacing"
        return AdviceItem(check_id="T07", headline=headline, reason=reason)
    reason += f" {smallest[0]} would keep only {smallest[1]:,.0f} voxels in a typical case, fewer "
    reason += f"than {config.advice.min_class_voxels:g}: go to the finest tenth of the cases."
    if tuple(facts.fine_spacing_mm) == tuple(facts.spacing_mm):
        reason += " They are no finer here; only better scans or another class would help."
        return AdviceItem(check_id="T07", headline="a class is too small", reason=reason)
    return AdviceItem(
        check_id="T07",
        headline="resample more finely than the median",
        reason=reason,
        settings={"train.spacing_mm": list(facts.fine_spacing_mm)},
    )


def _validation(facts: DatasetFacts) -> AdviceItem:
    reason = (
        "Dice pooled over the voxels of all validation cases, smoothed over rounds, moves less "
    )
    reason += "than the mean of case scores."
    headline = "choose the checkpoint by pooled Dice, as training does"
    if facts.fewest_validation is not None:
        name, n, n_cases = facts.fewest_validation
        reason += f" Fold 0 validates on {n_cases} cases, {n} of them with {name}, the fewest."
        if n < 5:
            headline += "; trust no single fold"
            reason += f" Fewer than 5 say little about {name}: train all folds before comparing."
    return AdviceItem(check_id="T08", headline=headline, reason=reason)


def _listed(names: Sequence[str], most: int = 4) -> str:
    return some_of(names, most)
