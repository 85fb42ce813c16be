"""Names of the losses and what they are made of; free of torch, for the configuration."""

from typing import Literal

LossKind = Literal[
    "dice_ce",
    "dice",
    "ce",
    "dice_focal",
    "generalized_dice",
    "generalized_dice_ce",
    "tversky",
    "tversky_ce",
    "focal_tversky",
    "focal_tversky_ce",
]

# What each kind is made of: an overlap term and a term per voxel.
OVERLAP: dict[str, str] = {
    "dice_ce": "dice",
    "dice": "dice",
    "dice_focal": "dice",
    "generalized_dice": "generalized_dice",
    "generalized_dice_ce": "generalized_dice",
    "tversky": "tversky",
    "tversky_ce": "tversky",
    "focal_tversky": "focal_tversky",
    "focal_tversky_ce": "focal_tversky",
}
VOXELWISE: dict[str, str] = {
    "dice_ce": "ce",
    "ce": "ce",
    "generalized_dice_ce": "ce",
    "tversky_ce": "ce",
    "focal_tversky_ce": "ce",
    "dice_focal": "focal",
}
