"""The paragraph a paper needs: what was measured, how, on how many cases, with which software."""

from importlib import metadata

from pipeline.evaluate.evaluation import Evaluation

DEFINITIONS = (
    ("Dice", "2 TP / (2 TP + FP + FN) over voxels; 1 is perfect, 0 is no overlap."),
    ("IoU", "TP / (TP + FP + FN), also called Jaccard; IoU = Dice / (2 - Dice)."),
    (
        "Volume error",
        "Predicted minus reference volume in ml, voxel volume from the affine; signed, so errors "
        "of both signs cancel in the mean. Cases with the class in neither map are left out.",
    ),
    ("Missed", "The reference holds the class, the prediction has no voxel of it."),
    ("Hallucinated", "The prediction holds the class, the reference has no voxel of it."),
    ("Absent", "Neither holds the class; Dice and IoU are undefined."),
    (
        "95 % interval",
        "Of the mean, from resampling cases with replacement (BCa bootstrap, percentile where BCa "
        "has no answer). It cannot know failures that these cases do not contain: read it beside "
        "the counts and the worst cases. For ceiling-like scores with rare failures it is too "
        "narrow, even with 50 cases.",
    ),
    (
        "Foreground mean",
        "Mean over classes of the mean over cases, classes without any value left out, unless the "
        "policy says otherwise.",
    ),
)


def methods_text(evaluation: Evaluation) -> str:
    """Describe the evaluation in sentences that can be pasted into a methods section.

    Args:
        evaluation: What was done.

    Returns:
        One paragraph, ending in a line break.
    """
    config, summary = evaluation.config, evaluation.summary
    n_missing = len(summary.failed_cases) - evaluation.n_unscored
    sentences = [
        f"Segmentations of {', '.join(evaluation.class_names)} were compared voxel by voxel with "
        f"the reference labels of {evaluation.n_references} cases of {evaluation.dataset_name}, "
        "on the native grid of each reference; nothing was resampled.",
        "Per class and case we computed the Dice coefficient, 2TP/(2TP+FP+FN), the intersection "
        "over union, TP/(TP+FP+FN), and the signed volume difference in ml.",
        f"Classes that are empty in one or both maps followed the policy '{config.policy}': "
        f"{evaluation.policy.description}",
    ]
    if n_missing:
        sentences.append(
            f"Without a prediction were {n_missing} of them; their structures count as missed."
        )
    if evaluation.n_unscored:
        sentences.append(
            f"Not comparable, and in no average, were {evaluation.n_unscored} of them."
        )
    if evaluation.seen_in_training:
        sentences.append(
            f"The model had been trained on {len(evaluation.seen_in_training)} of these cases; "
            "this is not a measurement on unseen data."
        )
    if config.n_bootstrap:
        sentences.append(
            "We report means over cases with 95 % confidence intervals from a BCa bootstrap over "
            f"cases ({config.n_bootstrap} resamples, seed {config.seed}), medians and the number "
            "of cases with a value."
        )
    sentences.append(
        f"Software: voxline {_version('voxline')}, numpy {_version('numpy')}, "
        f"scipy {_version('scipy')}."
    )
    return " ".join(sentences) + "\n"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "(not installed as a package)"
