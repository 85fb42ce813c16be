"""Family P06: a watch on the running training that names what the audit already knew.

The guard only looks. It never changes a step, and its state is part of the checkpoint, so a
resumed training says what an undisturbed one would have said, and says it once.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Literal

from pipeline.artifacts import Finding
from pipeline.train.findings import write_findings

logger = logging.getLogger(__name__)

Symptom = Literal[
    "blank", "filled", "never_sampled", "loss_spikes", "gradient_spikes", "not_finite"
]

# What each symptom is usually the consequence of, most likely first.
SUSPECTS: dict[Symptom, tuple[str, ...]] = {
    "blank": (
        *("P01", "P03", "E01", "E02", "E03", "E04", "E05", "E07", "E08", "E11"),
        *("G01", "G02", "G03", "G04", "G05", "G12", "G13", "G14", "F03", "F09"),
        *("S02", "S01", "S08", "P05"),
    ),
    "filled": ("E09", "P01", "E02", "S02", "P03", "P05", "F10"),
    "never_sampled": ("P03", "E01", "E02", "E03", "S01", "S02"),
    "loss_spikes": ("S01", "E05", "E08", "F09", "P05", "F11", "F12", "S03", "S09"),
    "gradient_spikes": ("F09", "P05", "F11", "F12", "S09", "E08"),
    "not_finite": ("F09", "P05", "F12", "F11", "F10"),
}
_OTHERWISE: dict[Symptom, str] = {
    "blank": "train longer, raise train.foreground_fraction, lower train.optimizer.learning_rate, "
    "or take another train.loss.kind (dice_focal, tversky_ce)",
    "filled": "lower train.optimizer.learning_rate, or take train.loss.kind=dice_ce, which also "
    "counts the background",
    "never_sampled": "raise train.foreground_fraction or train.patch_size, add cases that show the "
    "class, or leave it out of task.classes",
    "loss_spikes": "lower train.optimizer.learning_rate or raise train.batch_size",
    "gradient_spikes": "lower train.optimizer.learning_rate or train.optimizer.clip_norm",
    "not_finite": "lower train.optimizer.learning_rate, or look at these cases in the audit report",
}
# In the first part of a training a blank answer is normal; a class of few voxels is found late.
QUIET_PROGRESS, QUIET_PROGRESS_TINY = 0.2, 0.5
TINY_SHARE = 1e-3
# Validations in a row before a class counts as collapsed.
N_COLLAPSED = 2
FILLED_SHARE = 0.9
# What is left beside a class that fills the images, as a share of what should be left: one that
# takes most of them in truth may well be predicted a little larger.
LEFT_SHARE = 0.25
# Share of the true volume; a few stray voxels do not make a class found.
BLANK_SHARE = 0.01
# Steps whose running median is compared with; none is judged before it is full.
WINDOW = 50
GRADIENT_RATIO = 10.0
LOSS_RATIO = 3.0
# One odd batch is no spike train.
N_SPIKES = 3
# Patches before a class that was in none of them counts as left out; also so many of each case.
MIN_PATCHES, MIN_PATCHES_PER_CASE = 100, 3
_MAX_NAMED = 3


@dataclass
class GuardState:
    """What the guard remembers; part of the checkpoint.

    Args:
        losses: The last finite losses, oldest first.
        norms: The last finite gradient norms.
        first_loss: Median loss of the first window: what an untrained network costs.
        n_loss_spikes: Losses far above their running median and above the untrained network's.
        n_gradient_spikes: Gradient norms far above their running median.
        spike_cases: Cases of the batches that spiked, newest last.
        n_blank: Validations in a row in which a class was predicted (almost) nowhere.
        n_filled: Validations in a row in which a class, or all together, filled the images.
        n_patches: Patches trained on.
        n_patches_of: How many of them show each class, foreground classes in order.
        findings: What was said so far, as JSON.
    """

    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    first_loss: float | None = None
    n_loss_spikes: int = 0
    n_gradient_spikes: int = 0
    spike_cases: list[str] = field(default_factory=list)
    n_blank: dict[str, int] = field(default_factory=dict)
    n_filled: dict[str, int] = field(default_factory=dict)
    n_patches: int = 0
    n_patches_of: list[int] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class ClassShares:
    """Voxels of one class over all voxels of the validation cases.

    Args:
        predicted: Share in the predictions.
        reference: Share in the references.
    """

    predicted: float
    reference: float


def watch_step(
    state: GuardState, loss: float, gradient_norm: float, case_ids: Sequence[str]
) -> None:
    """Take note of a step.

    Args:
        state: Changed in place.
        loss: Total loss.
        gradient_norm: Before clipping.
        case_ids: Cases of the batch.
    """
    if not math.isfinite(loss) or not math.isfinite(gradient_norm):
        return
    is_spike = False
    if len(state.norms) == WINDOW and gradient_norm > GRADIENT_RATIO * median(state.norms):
        state.n_gradient_spikes += 1
        is_spike = True
    if len(state.losses) == WINDOW:
        usual = median(state.losses)
        state.first_loss = usual if state.first_loss is None else state.first_loss
        if loss > max(LOSS_RATIO * abs(usual), 1.2 * state.first_loss):
            state.n_loss_spikes += 1
            is_spike = True
    if is_spike:
        state.spike_cases = [*state.spike_cases, *case_ids][-2 * _MAX_NAMED :]
    state.losses = [*state.losses, loss][-WINDOW:]
    state.norms = [*state.norms, gradient_norm][-WINDOW:]


def watch_patches(state: GuardState, n_patches: int, n_patches_of: Sequence[int]) -> None:
    """Take note of what the patches of a step showed.

    Args:
        state: Changed in place.
        n_patches: Patches in the batch.
        n_patches_of: How many of them show each class, foreground classes in order.
    """
    state.n_patches += n_patches
    before = state.n_patches_of or [0] * len(n_patches_of)
    state.n_patches_of = [old + new for old, new in zip(before, n_patches_of, strict=True)]


def watch_round(
    state: GuardState,
    shares: Mapping[str, ClassShares],
    progress: float,
    suspects: Sequence[Finding],
    *,
    class_names: Sequence[str] = (),
    n_cases: int = 0,
) -> list[Finding]:
    """Judge a round: collapsed classes, classes in no patch and spikes, each said once.

    Args:
        state: Changed in place.
        shares: Per class, from the validation; empty without one.
        progress: Share of the training that is over, 0 to 1.
        suspects: Findings of audit and preflight, for the likely cause.
        class_names: Foreground classes in order.
        n_cases: Training cases; before each has given a few patches, no class can be said to be
            left out.

    Returns:
        What is new.
    """
    said = {_key(Finding.model_validate_json(text)) for text in state.findings}
    found = [*_collapsed(state, shares, progress), *_spikes(state)]
    if progress >= QUIET_PROGRESS and state.n_patches >= max(
        MIN_PATCHES, MIN_PATCHES_PER_CASE * n_cases
    ):
        found += _never_sampled(state, class_names)
    if any(finding.evidence["symptom"] == "filled" and finding.class_name for finding in found):
        said.add(("filled", None))
    fresh = [explain(finding, suspects) for finding in found if _key(finding) not in said]
    state.findings += [finding.model_dump_json() for finding in fresh]
    return fresh


def _key(finding: Finding) -> tuple[object, str | None]:
    return finding.evidence.get("symptom"), finding.class_name


def _collapsed(
    state: GuardState, shares: Mapping[str, ClassShares], progress: float
) -> list[Finding]:
    findings = []
    is_late = progress >= QUIET_PROGRESS
    for name, share in shares.items():
        is_blank = share.predicted < BLANK_SHARE * share.reference
        state.n_blank[name] = state.n_blank.get(name, 0) + 1 if is_blank else 0
        is_due = is_late and (share.reference >= TINY_SHARE or progress >= QUIET_PROGRESS_TINY)
        if state.n_blank[name] >= N_COLLAPSED and is_due:
            n = state.n_blank[name]
            where = "almost nowhere" if share.predicted else "nowhere"
            what = f"class '{name}' was predicted {where} in {n} validations in a row"
            findings.append(_finding("blank", what, share.predicted, name))
        if _is_filled(state, name, share) and is_late:
            what = f"class '{name}' fills {share.predicted:.0%} of the validation images, "
            what += f"{share.reference:.1%} would be right"
            findings.append(_finding("filled", what, share.predicted, name))
    together = ClassShares(
        predicted=math.fsum(share.predicted for share in shares.values()),
        reference=math.fsum(share.reference for share in shares.values()),
    )
    # Several classes may share what one alone does not fill.
    if _is_filled(state, "", together) and is_late:
        what = f"foreground fills {together.predicted:.0%} of the validation images, "
        what += f"{together.reference:.1%} would be right"
        findings.append(_finding("filled", what, together.predicted))
    return findings


def _never_sampled(state: GuardState, class_names: Sequence[str]) -> list[Finding]:
    counted = zip(class_names, state.n_patches_of, strict=False)
    return [
        _finding(
            "never_sampled",
            f"class '{name}' was in none of the {state.n_patches} patches so far: nothing of it "
            "was learned",
            0,
            name,
        )
        for name, n in counted
        if n == 0
    ]


def _is_filled(state: GuardState, name: str, share: ClassShares) -> bool:
    left, should_be_left = 1 - share.predicted, 1 - share.reference
    is_filled = share.predicted > FILLED_SHARE and left < LEFT_SHARE * should_be_left
    state.n_filled[name] = state.n_filled.get(name, 0) + 1 if is_filled else 0
    return state.n_filled[name] >= N_COLLAPSED


def _spikes(state: GuardState) -> list[Finding]:
    findings = []
    cases = ", ".join(list(dict.fromkeys(reversed(state.spike_cases)))[:_MAX_NAMED])
    if state.n_gradient_spikes >= N_SPIKES:
        n = state.n_gradient_spikes
        what = f"the gradient was over {GRADIENT_RATIO:g} times its usual size in {n} steps, "
        findings.append(_finding("gradient_spikes", f"{what}lately with {cases}", n))
    if state.n_loss_spikes >= N_SPIKES:
        n = state.n_loss_spikes
        what = f"the loss jumped above that of an untrained network in {n} steps, "
        findings.append(_finding("loss_spikes", f"{what}lately with {cases}", n))
    return findings


def _finding(
    symptom: Symptom, what: str, value: float | int, class_name: str | None = None
) -> Finding:
    thresholds: dict[Symptom, float | int] = {
        "blank": BLANK_SHARE,
        "filled": FILLED_SHARE,
        "never_sampled": 1,
        "loss_spikes": N_SPIKES,
        "gradient_spikes": N_SPIKES,
        "not_finite": 0,
    }
    return Finding(
        check_id="P06",
        severity="warning",
        class_name=class_name,
        value=value,
        threshold=thresholds[symptom],
        message=what,
        fix=_OTHERWISE[symptom],
        evidence={"symptom": symptom},
    )


def explain(finding: Finding, suspects: Sequence[Finding]) -> Finding:
    """Name the findings that make a symptom likely, instead of general advice.

    Args:
        finding: A symptom of this module.
        suspects: Findings of audit and preflight, waived ones included.

    Returns:
        The finding with the likely causes in its fix.
    """
    symptom = next(name for name in SUSPECTS if name == finding.evidence["symptom"])
    fix, causes = name_causes(symptom, suspects, finding.class_name)
    evidence = {**finding.evidence, **({"causes": ",".join(causes)} if causes else {})}
    return finding.model_copy(update={"fix": fix, "evidence": evidence})


def name_causes(
    symptom: Symptom, suspects: Sequence[Finding], class_name: str | None = None
) -> tuple[str, tuple[str, ...]]:
    """What to do about a symptom, and the checks that explain it.

    Args:
        symptom: What went wrong.
        suspects: Findings of audit and preflight, waived ones included.
        class_name: The class it went wrong for; None for all.

    Returns:
        A fix that names the likely causes, and their check ids, likeliest first.
    """
    order, otherwise = SUSPECTS[symptom], _OTHERWISE[symptom]
    fitting = [
        s
        for s in suspects
        if s.check_id in order
        and s.severity != "info"
        and (class_name is None or s.class_name in {None, class_name})
    ]
    fitting.sort(key=lambda s: (s.severity != "error", order.index(s.check_id)))
    first_of_check = list({s.check_id: s for s in reversed(fitting)}.values())[::-1][:_MAX_NAMED]
    if not first_of_check:
        return f"the audit knows no cause; {otherwise}", ()
    named = "; ".join(f"{s.check_id} {_where(s)}{s.message}" for s in first_of_check)
    fix = f"likely cause: {named}. Otherwise {otherwise}"
    return fix, tuple(s.check_id for s in first_of_check)


def in_few_words(findings: Sequence[Finding]) -> list[tuple[str, str, str]]:
    """Findings of a round for the log: of many classes with one symptom the first stands for all.

    Args:
        findings: New findings of the guard.

    Returns:
        Symptom, message and fix.
    """
    groups: dict[str, list[Finding]] = {}
    for finding in findings:
        groups.setdefault(str(finding.evidence["symptom"]), []).append(finding)
    lines = []
    for symptom, group in groups.items():
        others = [finding.class_name for finding in group[1:] if finding.class_name]
        message = group[0].message
        if others:
            more = f" and {len(others) - _MAX_NAMED} more" if len(others) > _MAX_NAMED else ""
            message += f"; likewise {', '.join(others[:_MAX_NAMED])}{more} (guard.json)"
        lines.append((symptom, message, group[0].fix))
    return lines


def _where(finding: Finding) -> str:
    return f"in {finding.case_id}: " if finding.case_id else ""


def write_guard(file: Path, state: GuardState, n_cases: int) -> None:
    """Write everything the guard has said, as findings.

    Args:
        file: `guard.json` of the fold.
        state: The guard's memory.
        n_cases: Validation cases it has watched.
    """
    findings = [Finding.model_validate_json(text) for text in state.findings]
    write_findings(file, findings, n_cases)
