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

Symptom = Literal["blank", "filled", "loss_spikes", "gradient_spikes"]

# What each symptom is usually the consequence of, most likely first.
SUSPECTS: dict[Symptom, tuple[str, ...]] = {
    "blank": (
        *("P01", "P03", "E01", "E02", "E03", "E04", "E05", "E07", "E08", "E11"),
        *("G01", "G02", "G03", "G04", "G05", "G12", "G13", "G14", "F03", "F09"),
        *("S02", "S01", "S08", "P05"),
    ),
    "filled": ("E09", "P01", "E02", "S02", "P03", "P05", "F10"),
    "loss_spikes": ("S01", "E05", "E08", "F09", "P05", "F11", "F12", "S03", "S09"),
    "gradient_spikes": ("F09", "P05", "F11", "F12", "S09", "E08"),
}
_OTHERWISE: dict[Symptom, str] = {
    "blank": "take train.loss.kind=dice_ce or dice_focal, raise train.foreground_fraction, or "
    "train longer",
    "filled": "take train.loss.kind=dice_ce, which also counts the background",
    "loss_spikes": "lower train.optimizer.learning_rate or raise train.batch_size",
    "gradient_spikes": "lower train.optimizer.learning_rate or train.optimizer.clip_norm",
}
# In the first part of a training a blank answer is normal.
QUIET_PROGRESS = 0.2
# Validations in a row before a class counts as collapsed.
N_COLLAPSED = 2
FILLED_SHARE = 0.9
# Steps whose running median is compared with; none is judged before it is full.
WINDOW = 50
GRADIENT_RATIO = 10.0
LOSS_RATIO = 3.0
# One odd batch is no spike train.
N_SPIKES = 3
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
        n_blank: Validations in a row in which a class was predicted nowhere.
        n_filled: Validations in a row in which a class filled the images.
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


def watch_round(
    state: GuardState,
    shares: Mapping[str, ClassShares],
    progress: float,
    suspects: Sequence[Finding],
) -> list[Finding]:
    """Judge a round: collapsed classes and spikes, each said once.

    Args:
        state: Changed in place.
        shares: Per class, from the validation; empty without one.
        progress: Share of the training that is over, 0 to 1.
        suspects: Findings of audit and preflight, for the likely cause.

    Returns:
        What is new.
    """
    said = {_key(Finding.model_validate_json(text)) for text in state.findings}
    found = [*_collapsed(state, shares, progress), *_spikes(state)]
    fresh = [explain(finding, suspects) for finding in found if _key(finding) not in said]
    state.findings += [finding.model_dump_json() for finding in fresh]
    return fresh


def _key(finding: Finding) -> tuple[object, str | None]:
    return finding.evidence.get("symptom"), finding.class_name


def _collapsed(
    state: GuardState, shares: Mapping[str, ClassShares], progress: float
) -> list[Finding]:
    findings = []
    for name, share in shares.items():
        is_blank = share.predicted == 0 and share.reference > 0
        is_filled = share.predicted > FILLED_SHARE and share.reference < FILLED_SHARE
        state.n_blank[name] = state.n_blank.get(name, 0) + 1 if is_blank else 0
        state.n_filled[name] = state.n_filled.get(name, 0) + 1 if is_filled else 0
        if progress < QUIET_PROGRESS:
            continue
        if state.n_blank[name] >= N_COLLAPSED:
            n = state.n_blank[name]
            what = f"class '{name}' was predicted nowhere in {n} validations in a row"
            findings.append(_finding("blank", what, share.predicted, name))
        if state.n_filled[name] >= N_COLLAPSED:
            what = f"class '{name}' fills {share.predicted:.0%} of the validation images, "
            what += f"{share.reference:.1%} would be right"
            findings.append(_finding("filled", what, share.predicted, name))
    return findings


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
        "blank": 0,
        "filled": FILLED_SHARE,
        "loss_spikes": N_SPIKES,
        "gradient_spikes": N_SPIKES,
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
    symptom = str(finding.evidence["symptom"])
    order = next((ids for name, ids in SUSPECTS.items() if name == symptom), ())
    fitting = [
        s
        for s in suspects
        if s.check_id in order
        and s.severity != "info"
        and (finding.class_name is None or s.class_name in {None, finding.class_name})
    ]
    fitting.sort(key=lambda s: (s.severity != "error", order.index(s.check_id)))
    first_of_check = list({s.check_id: s for s in reversed(fitting)}.values())[::-1]
    if not first_of_check:
        general = f"the audit knows no cause; {finding.fix}"
        return finding.model_copy(update={"fix": general})
    named = "; ".join(f"{s.check_id} {_where(s)}{s.message}" for s in first_of_check[:_MAX_NAMED])
    return finding.model_copy(
        update={
            "fix": f"likely cause: {named}. Otherwise {finding.fix}",
            "evidence": {
                **finding.evidence,
                "causes": ",".join(s.check_id for s in first_of_check[:_MAX_NAMED]),
            },
        }
    )


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
