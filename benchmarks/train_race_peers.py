"""nnU-Net v2 and a MONAI tutorial loop, trained for some minutes; in their Python.

Started by train_race.py with the interpreter of an environment of its own (see peers.py):

    PEERS/bin/python benchmarks/train_race_peers.py {nnunet|monai} DATA FOLDER MINUTES {cpu|cuda}

FOLDER/folds.json names training and validation cases; predictions of the latter go to
FOLDER/predictions, the number of steps to FOLDER/n_steps.txt.
"""

import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

# Steps between looks at the clock are single steps for both: nobody gets more than the minutes.
PATCH = (32, 48, 32)
BATCH = 2


def main() -> None:
    """Train one tool and predict."""
    tool, data, folder, minutes, device = (sys.argv[1], *map(Path, sys.argv[2:4]), *sys.argv[4:6])
    folds = json.loads((folder / "folds.json").read_text())
    train = {"nnunet": train_nnunet, "monai": train_monai}[tool]
    n_steps = train(data, folder, 60 * float(minutes), folds, device)
    (folder / "n_steps.txt").write_text(str(n_steps))


def train_nnunet(
    data: Path, folder: Path, budget_s: float, folds: dict[str, list[str]], device_name: str
) -> int:
    """nnU-Net's own plans, trainer, augmentation and predictor; poly schedule over the budget."""
    raw = folder / "raw" / "Dataset004_Hippocampus"
    _copy_raw(data, raw, folds["train"] + folds["validation"])
    os.environ |= {
        "nnUNet_raw": str(raw.parent),
        "nnUNet_preprocessed": str(folder / "p"),
        "nnUNet_results": str(folder / "r"),
        # On a GPU as it comes: compiled. On a CPU that costs minutes and makes nothing faster.
        "nnUNet_compile": "t" if device_name == "cuda" else "f",
        "nnUNet_n_proc_DA": str(max(1, (os.cpu_count() or 1) - 1)),
    }
    # nnU-Net reads its folders from the environment when it is imported.
    import torch
    from nnunetv2.experiment_planning.plan_and_preprocess_api import (
        extract_fingerprints,
        plan_experiments,
        preprocess,
    )
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    extract_fingerprints([4], num_processes=2)
    plan_experiments([4])
    preprocess([4], configurations=("3d_fullres",), num_processes=(2,))
    preprocessed = folder / "p" / raw.name
    split = {"train": folds["train"], "val": folds["validation"]}
    (preprocessed / "splits_final.json").write_text(json.dumps([split]))
    plans = json.loads((preprocessed / "nnUNetPlans.json").read_text())
    plans["continue_training"] = False
    description = json.loads((preprocessed / "dataset.json").read_text())
    device = torch.device(device_name)
    trainer: Any = nnUNetTrainer(plans, "3d_fullres", 0, description, device)
    trainer.initialize()
    trainer.on_train_start()
    trainer.on_epoch_start()
    trainer.on_train_epoch_start()
    n_steps, started_s = 0, time.monotonic()
    while (share := (time.monotonic() - started_s) / budget_s) < 1:
        for group in trainer.optimizer.param_groups:
            group["lr"] = trainer.initial_lr * (1 - share) ** 0.9
        trainer.train_step(next(trainer.dataloader_train))
        n_steps += 1
    trainer.save_checkpoint(str(Path(trainer.output_folder) / "checkpoint_final.pth"))
    predictor = nnUNetPredictor(use_mirroring=False, device=device, allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(
        trainer.output_folder_base, (0,), "checkpoint_final.pth"
    )
    images = [[str(raw / "imagesTr" / f"{case}_0000.nii.gz")] for case in folds["validation"]]
    predictor.predict_from_files(
        images,
        str(folder / "predictions"),
        num_processes_preprocessing=1,
        num_processes_segmentation_export=1,
    )
    for loader in (trainer.dataloader_train, trainer.dataloader_val):
        loader._finish()
    return n_steps


def _copy_raw(data: Path, raw: Path, case_ids: list[str]) -> None:
    for kind in ("imagesTr", "labelsTr"):
        (raw / kind).mkdir(parents=True)
    for case_id in case_ids:
        shutil.copy(data / "labelsTr" / f"{case_id}.nii.gz", raw / "labelsTr")
        image = raw / "imagesTr" / f"{case_id}_0000.nii.gz"
        shutil.copy(data / "imagesTr" / f"{case_id}.nii.gz", image)
    description = json.loads((data / "dataset.json").read_text())
    labels = {name: int(value) for value, name in description["labels"].items()}
    content = {
        "channel_names": description.get("modality", {"0": "MRI"}),
        "labels": labels,
        "numTraining": len(case_ids),
        "file_ending": ".nii.gz",
    }
    (raw / "dataset.json").write_text(json.dumps(content))


def train_monai(
    data: Path, folder: Path, budget_s: float, folds: dict[str, list[str]], device: str
) -> int:
    """What MONAI's 3D segmentation tutorials do; all cases have the same spacing and axes."""
    import torch
    from monai.data import CacheDataset, DataLoader
    from monai.losses import DiceLoss
    from monai.networks.layers import Norm
    from monai.networks.nets import UNet
    from monai.transforms import (
        Compose,
        EnsureChannelFirstd,
        LoadImaged,
        NormalizeIntensityd,
        RandCropByPosNegLabeld,
        SpatialPadd,
    )
    from monai.utils import set_determinism

    set_determinism(0)
    keys = ["image", "label"]
    read = [LoadImaged(keys), EnsureChannelFirstd(keys), NormalizeIntensityd("image")]
    crop = RandCropByPosNegLabeld(keys, "label", PATCH, pos=1, neg=1, num_samples=4)
    steps = Compose([*read, SpatialPadd(keys, PATCH), crop])
    files = [_case_files(data, case_id) for case_id in folds["train"]]
    loader = DataLoader(
        CacheDataset(files, steps, progress=False), batch_size=BATCH, shuffle=True, num_workers=0
    )
    n_classes = len(json.loads((data / "dataset.json").read_text())["labels"])
    network = UNet(
        3,
        1,
        n_classes,
        channels=(16, 32, 64, 128, 256),
        strides=(2, 2, 2, 2),
        num_res_units=2,
        norm=Norm.BATCH,
    ).to(device)
    loss_of = DiceLoss(to_onehot_y=True, softmax=True)
    optimizer = torch.optim.Adam(network.parameters(), 1e-4)
    n_steps, started_s, is_over = 0, time.monotonic(), False
    while not is_over:
        for batch in loader:
            optimizer.zero_grad()
            loss = loss_of(network(batch["image"].to(device)), batch["label"].to(device))
            loss.backward()
            optimizer.step()
            n_steps += 1
            is_over = time.monotonic() - started_s > budget_s
            if is_over:
                break
    prepare = Compose([LoadImaged("image"), EnsureChannelFirstd("image"), read[2]])
    _predict_monai(network, prepare, data, folder / "predictions", folds["validation"], device)
    return n_steps


def _predict_monai(
    network: Any, prepare: Any, data: Path, predictions: Path, case_ids: list[str], device: str
) -> None:
    import nibabel as nib
    import numpy as np
    import torch
    from monai.inferers import sliding_window_inference

    network.eval()
    predictions.mkdir()
    for case_id in case_ids:
        file = _case_files(data, case_id)["image"]
        image = prepare({"image": file})["image"][None].to(device)
        with torch.no_grad():
            logits = sliding_window_inference(image, PATCH, 4, network, overlap=0.5)
        labels = logits.argmax(1)[0].cpu().numpy().astype(np.uint8)
        source = nib.load(file)
        nib.save(nib.Nifti1Image(labels, source.affine), predictions / f"{case_id}.nii.gz")


def _case_files(data: Path, case_id: str) -> dict[str, str]:
    kinds = {"image": "imagesTr", "label": "labelsTr"}
    return {key: str(data / kind / f"{case_id}.nii.gz") for key, kind in kinds.items()}


if __name__ == "__main__":
    main()
