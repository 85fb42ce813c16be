"""What every check of the audit does, in words; write_checks_reference.py makes a page of it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Note:
    """What a check does, in words.

    Args:
        severity: Of its findings.
        fires: When it speaks.
        spares: What looks similar and is left alone.
        keys: Settings below `audit` that hold its limits.
    """

    severity: str
    fires: str
    spares: str = ""
    keys: tuple[str, ...] = ()


NOTES: dict[str, Note] = {
    "F01": Note(
        "error; info for files without a reference",
        "an image without label or the reverse, one case twice, a missing channel; with "
        "`voxline audit FOLDER --ref` references without a file and files without a reference",
        "a test set without labels",
    ),
    "F02": Note("error", "empty, too short, or a suffix that does not fit the bytes"),
    "F03": Note(
        "error", "the gzip stream ends early or fails its checksum", "gzip files of several members"
    ),
    "F04": Note("error; warning for surplus bytes", "fewer or more bytes than the header promises"),
    "F05": Note("error", "no volume header, or voxels that are colors or complex numbers"),
    "F06": Note(
        "error; warning for an axis of 1 or a thin volume",
        "several volumes in a label, a label with a fourth axis, few voxels along an axis",
        keys=("min_axis_voxels",),
    ),
    "F07": Note(
        "error",
        "the label header rescales its values",
        "slope 0, NaN or 1, which mean none; any slope of an image",
    ),
    "F08": Note("info", "labels stored as floats or wide integers"),
    "F09": Note("error", "NaN or infinite voxels in image or label"),
    "F10": Note(
        "error",
        "a channel that is one value",
        "zeros around a stripped brain",
        ("max_constant_fraction",),
    ),
    "F11": Note(
        "warning",
        "many voxels at the end of the range; jumps by a whole number range",
        "the ends of the CT scale, zeros around a body, masks as channels, burnt-in text",
        (
            "images.max_saturated_fraction",
            "images.max_scaled_saturated_fraction",
            "images.max_wrapped_fraction",
            "images.ct_limits_hu",
        ),
    ),
    "F12": Note(
        "warning; info for padding",
        "CT without values below 0, off by 1024, normalized, or padded; one finding if more than "
        "five and at least 80 % of the CT cases share it",
        "channels that are not declared CT; constant images",
        ("images.min_ct_padding_hu", "images.min_ct_padding_fraction"),
    ),
    "F13": Note(
        "warning",
        "voxels or volumes of a size no patient has",
        keys=("images.min_spacing_mm", "images.max_spacing_mm", "images.max_extent_mm"),
    ),
    "F14": Note(
        "warning",
        "SimpleITK sees other voxels or another place, or refuses the file",
        "rounding of scaled values; files that both refuse",
        ("images.readers", "images.max_reader_shift_voxels"),
    ),
    "G01": Note(
        "error", "shapes differ, also after both were turned to RAS", "another order of the axes"
    ),
    "G02": Note(
        "error; warning for small shifts",
        "the farthest of the eight grid corners, in voxels",
        "float noise in headers; a label stored in another orientation",
        ("max_affine_shift_voxels", "max_shift_error_voxels"),
    ),
    "G03": Note(
        "error", "pixdim and affine give other voxel sizes", keys=("max_spacing_mismatch_fraction",)
    ),
    "G04": Note("warning", "sform and qform lie apart", keys=("max_form_shift_voxels",)),
    "G05": Note(
        "error if one of the pair; else warning",
        "both codes 0: readers guess the position",
        "formats that always have one",
    ),
    "G06": Note(
        "warning",
        "axes off the right angle; ITK refuses the file",
        "says whether it is header noise or a tilted gantry",
        ("grids.max_axis_skew", "grids.max_repairable_voxels"),
    ),
    "G07": Note("error", "an affine that is singular or not finite, a voxel size of 0 or less"),
    "G08": Note(
        "error; warning if the label fits as its header says; info over the dataset",
        "image and label in different orientations",
        "oblique grids between two names",
    ),
    "G09": Note(
        "info; warning for odd ones out",
        "grids turned against the patient axes",
        "protocols that are always oblique",
        ("grids.max_oblique_degrees", "grids.min_cohort_cases"),
    ),
    "G10": Note("info", "voxels far longer along one axis", keys=("grids.max_anisotropy",)),
    "G11": Note(
        "warning; info for groups",
        "a spacing or field of view apart from all others",
        "a second scanner: grids that several cases share",
        (
            "cohort.max_grid_robust_z",
            "cohort.min_cluster_fraction",
            "cohort.min_spacing_gap_fraction",
            "cohort.min_view_gap_fraction",
        ),
    ),
    "G12": Note(
        "error; warning above half",
        "boxes of image and label share little space",
        "labels of a cropped region",
        ("grids.min_overlap_fraction", "grids.min_overlap_error_fraction"),
    ),
    "G13": Note(
        "warning",
        "label borders meet stronger image edges when shifted, in a clear peak",
        "labels too small or without edges; what is usual in the other cases",
        (
            "grids.min_shift_gain",
            "grids.min_lone_shift_gain",
            "grids.min_shift_voxels",
            "grids.min_peak_gain",
            "grids.min_border_voxels",
        ),
    ),
    "G14": Note(
        "error; warning where edges disagree or classes are few",
        "classes lie the other way round than elsewhere, or borders fit better mirrored",
        "one misplaced structure; left and right knees in one set; swapped names",
        ("grids.max_reversed_fraction", "grids.min_flip_gain", "grids.min_cohort_cases"),
    ),
    "G15": Note("error", "channels of a case on different grids", "header noise"),
    "E01": Note(
        "error",
        "values that no class declares; few voxels are listed one by one",
        "what E02, E03 and E07 say better",
    ),
    "E02": Note(
        "error", "a mask coded 0/255, 0/128 or 1/2, or two codings in one set", "declared values"
    ),
    "E03": Note(
        "error", "values between integers", "noise of float formats", ("max_label_fraction_part",)
    ),
    "E04": Note(
        "error in a case; warning for a class, or for one wrapped structure without a thin shell",
        "shells of values between a structure and background",
        "structures that touch in other cases too; membranes; structures cut by the edge",
        ("codes.max_between_excess", "codes.min_shell_border_share"),
    ),
    "E05": Note(
        "error if nowhere or required; warning if often; info in a case",
        "a declared class that is missing; more than five that often are, as one finding. "
        "Cases in `task.unannotated` do not count; "
        "there a warning says if the class was drawn after all",
        "rare structures: set the limit",
        ("max_absent_fraction", "required_classes"),
    ),
    "E06": Note("info", "class values are not 1, 2, 3, ..."),
    "E07": Note(
        "error",
        "too many values for a label, negative ones among more than 8, or more than 8 values that "
        "correlate with the image",
        "hundreds of declared classes; a -1 beside few values (E01)",
        ("max_image_like_values", "max_image_correlation"),
    ),
    "E08": Note(
        "warning; error for many or with required classes",
        "labels without foreground",
        "healthy cases, if declared",
        ("max_empty_fraction", "allow_empty", "required_classes"),
    ),
    "E09": Note("error", "nearly all foreground", keys=("max_foreground_fraction",)),
    "E10": Note(
        "error; warning for disjoint masks",
        "a label of several volumes; says which kind",
        "rounding overlaps",
        ("codes.max_overlap_fraction",),
    ),
    "E11": Note(
        "warning",
        "structures that fit other classes by volume, place and intensity",
        "fewer than ten cases; a displaced field of view",
        ("codes.min_swap_gain", "codes.max_swap_distance"),
    ),
    "E12": Note(
        "error; warning for lost files or cases; info for surplus cases",
        "dataset.json is unusable, lists files that are gone, or promises another number of "
        "labelled cases (`numTraining`)",
        "no `numTraining`; cases that F01 names; test folders",
    ),
    "E13": Note(
        "error",
        "values that speckle the edges between a few frequent ones",
        "many classes with close numbers",
        (
            "codes.min_palette_levels",
            "codes.max_palette_distance",
            "codes.min_palette_fraction",
            "codes.max_palette_coherence",
        ),
    ),
    "S01": Note(
        "warning; error if one voxel everywhere",
        "few voxels, or a thin structure, at the median spacing",
        keys=("anatomy.min_target_voxels", "anatomy.min_target_extent"),
    ),
    "S02": Note(
        "warning",
        "background voxels per class voxel",
        keys=("imbalance_warning", "imbalance_strong"),
    ),
    "S03": Note(
        "warning",
        "a volume apart from the other cases, on logarithms",
        "small structures at the edge of the image; less than ten cases",
        ("anatomy.max_outlier_z", "anatomy.min_volume_factor", "anatomy.min_cohort"),
    ),
    "S04": Note(
        "warning",
        "pieces of a class that is one piece elsewhere",
        "vessels, lesions (learned, or named); structures cut by the edge",
        ("anatomy.min_largest_share", "anatomy.multi", "anatomy.min_habit"),
    ),
    "S05": Note(
        "warning; info if usual, or for classes that come in pieces",
        "many pieces of few voxels",
        "classes named in `anatomy.multi`",
        ("anatomy.max_islands", "anatomy.multi"),
    ),
    "S06": Note(
        "info",
        "enclosed background",
        "classes that are hollow in most cases",
        ("anatomy.max_hole_share",),
    ),
    "S07": Note("info", "surface on the edge of the image", keys=("anatomy.max_edge_share",)),
    "S08": Note(
        "warning",
        "a class on air in one case and not in the others",
        "lung, colon, trachea: only outliers count",
        ("anatomy.max_air_share", "anatomy.max_outlier_z"),
    ),
    "S09": Note(
        "warning",
        "median or distribution of the image under a class",
        "the scale of MR images: each is normalized first",
        ("anatomy.max_intensity_z", "anatomy.min_cohort"),
    ),
    "S10": Note(
        "error",
        "left of a pair of names lies to the right of right",
        "structures that meet in the middle; names without sides",
        ("anatomy.min_side_gap_mm",),
    ),
    "S11": Note(
        "warning",
        "slices without a class that goes on behind them",
        "paired organs, stacked vertebrae (learned)",
        ("anatomy.max_gap_slices", "anatomy.multi"),
    ),
    "S12": Note(
        "warning; info if usual",
        "equal neighboring slices",
        "tiny and cylindrical structures, thick slices",
        ("anatomy.max_repeated_share", "anatomy.max_repeat_spacing_mm"),
    ),
    "S13": Note(
        "warning",
        "surface outside the structures it belongs to",
        "off until rules are given",
        ("anatomy.containment",),
    ),
    "S14": Note(
        "info",
        "contours that jump from slice to slice more than elsewhere",
        "structures cut by the edge",
        ("anatomy.max_outlier_z", "anatomy.min_cohort"),
    ),
    "D01": Note(
        "error across folds; else warning",
        "equal voxels under two ids, whatever the files look like",
        "repeats that are not equal",
    ),
    "D02": Note("error", "equal labels under different images", "empty labels"),
    "D03": Note(
        "error across folds; else warning",
        "thumbnails of gray value ranks that correlate far above all other pairs",
        "tight crops of one organ; visits of a known patient",
        ("cohort.min_twin_correlation", "cohort.min_twin_robust_z"),
    ),
    "D04": Note(
        "error; warning if groups match nothing; info for likely ids",
        "a patient in two folds; all cases of one patient, so that no folds can be made",
        "numbered series",
        ("groups", "split"),
    ),
    "D05": Note(
        "error; warning; info for small sets",
        "a class missing, or too rare, in training or validation of a fold; more than three "
        "classes of a single case each, as one finding; fewer than two cases",
        keys=("cohort.min_positive_cases", "n_folds"),
    ),
    "D06": Note(
        "error; warning if less than half of the files",
        "the label is the image; with `voxline audit FOLDER --ref` files that equal their "
        "reference",
    ),
    "D07": Note(
        "warning",
        "spacing, intensity or volumes of a fold differ from its training cases",
        "few cases; many comparisons (Holm)",
        ("cohort.max_drift_p", "cohort.min_drift_effect", "cohort.min_drift_cases"),
    ),
    "D08": Note(
        "warning",
        "channels fit better when exchanged",
        "the scale of MR images",
        ("cohort.max_channel_robust_z", "cohort.max_channel_swap_ratio"),
    ),
    "D09": Note(
        "info",
        "the site tells whether a class is labelled",
        keys=("cohort.max_site_association", "cohort.min_site_cases"),
    ),
    "P01": Note("error", "label values are not whole, not declared, or lost by the transforms"),
    "P02": Note("error", "shapes that would broadcast"),
    "P03": Note(
        "warning; error if no training case shows any class",
        "a class in no training case of the fold, in too few patches, or seen too seldom in the "
        "whole training",
    ),
    "P04": Note("error", "Dice or loss of answers that are known come out wrong"),
    "P05": Note("error; warning", "not finite, far from 0, flat or wide after normalization"),
    "P06": Note(
        "warning",
        "blank or all-foreground predictions, a class in no patch, spikes of loss or gradients",
    ),
}
