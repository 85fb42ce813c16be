"""What to do when a class collapses under a loss that cannot bring it back.

An overlap alone has no slope where a class is found nowhere, or where it fills everything: the
training stays there. Cross-entropy has one at every voxel. Where the configuration says so, it is
added to the overlap, once, from the next step on.
"""

import logging
from collections.abc import Sequence

from pipeline.artifacts import Finding
from pipeline.models.loss_kinds import OVERLAP
from pipeline.train.config import LossConfig
from pipeline.train.state import LoopParts, LoopState
from pipeline.train.teamwork import share_start

logger = logging.getLogger(__name__)

COLLAPSED = ("blank", "filled")


def with_cross_entropy(config: LossConfig) -> LossConfig | None:
    """The same overlap with cross-entropy beside it.

    Args:
        config: A loss.

    Returns:
        The loss; None if the present one has a term per voxel already, or is one of MONAI, of
        which nobody knows what it is made of.
    """
    if config.has_voxel_term or config.kind not in OVERLAP:
        return None
    return config.model_copy(
        update={
            # Kinds that name a term per voxel had it weighted with 0.
            "kind": f"{OVERLAP[config.kind]}_ce",
            "ce_weight": config.ce_weight or 1.0,
            # Decided when there was no cross-entropy; the overlap stays what it was.
            "include_background": config.has_background_dice,
        }
    )


def answer_collapse(parts: LoopParts, state: LoopState, found: Sequence[Finding]) -> None:
    """Add cross-entropy to the loss if a class has just collapsed and the user wants it.

    Args:
        parts: The learner gets the new loss.
        state: The guard's memory; its findings get what was done about them.
        found: What the guard has just found.
    """
    of_collapse = [f for f in found if f.evidence["symptom"] in COLLAPSED]
    is_last = state.pace.round + 1 >= state.pace.n_rounds
    if parts.config.on_collapse != "dice_ce" or not of_collapse or is_last:
        return
    before = parts.learner.loss_config
    after = with_cross_entropy(before)
    if after is None:
        return
    parts.learner.take_loss(after)
    # Other processes take the loss over with the rest of the state.
    share_start(parts)
    # Losses from before cannot be compared with those to come.
    state.guard.losses, state.guard.first_loss = [], None
    done = f"{after.kind} instead of {before.kind} from step {state.step}"
    new = {f.model_dump_json() for f in of_collapse}
    state.guard.findings = [
        _with_answer(text, done) if text in new else text for text in state.guard.findings
    ]
    logger.warning(
        "guard: %s; '%s' has no slope there that could bring it back: training goes on with '%s' "
        "from step %d (train.on_collapse)",
        of_collapse[0].message,
        before.kind,
        after.kind,
        state.step,
    )
    parts.tracker.set_tags({"guard.loss_switched": done})


def _with_answer(text: str, done: str) -> str:
    finding = Finding.model_validate_json(text)
    return finding.model_copy(
        update={"evidence": {**finding.evidence, "loss": done}}
    ).model_dump_json()
