"""What each check is about, in a few words for tables."""

CHECK_TITLES: dict[str, str] = {
    "F01": "files without a partner",
    "F02": "empty file or wrong container",
    "F03": "damaged compression",
    "F04": "too few or too many bytes",
    "F05": "unreadable header or type",
    "F06": "unusual dimensions",
    "F07": "label values are rescaled",
    "F08": "label type wider than needed",
    "F09": "NaN or infinite voxels",
    "F10": "constant image",
    "G01": "image and label differ in shape",
    "G02": "image and label lie apart",
    "G03": "two voxel sizes in one header",
    "G04": "two positions in one header",
    "G05": "no position in the header",
    "G07": "unusable affine",
    "G08": "different orientations",
    "E01": "undeclared label values",
    "E02": "binary mask with another coding",
    "E03": "values between integers",
    "E05": "class missing",
    "E06": "gaps in the class values",
    "E07": "label looks like an image",
    "E08": "empty label",
    "E09": "nearly everything is foreground",
    "E12": "description disagrees with files",
    "S02": "rare class",
    "D01": "same image twice",
    "D02": "same label under different images",
    "D05": "too few usable cases",
}

SEVERITY_RANK = {"error": 0, "warning": 1, "info": 2}


def title_of(check_id: str) -> str:
    """Title of a check; its id if the check is not known here."""
    return CHECK_TITLES.get(check_id, check_id)
