"""Make nnU-Net v2 predict: plan, train a few steps on the CPU, predict, and score; in its Python.

Started by nnunet_summary.py with the interpreter of an environment of its own (see peers.py):

    PEERS/bin/python benchmarks/nnunet_predictions.py RAW_DATASET WORK N_STEPS

RAW_DATASET is a folder Dataset004_Hippocampus in nnU-Net's layout. Predictions of the validation
cases go to WORK/predictions, their references to WORK/references, nnU-Net's scores beside them.
"""

import json
import os
import shutil
import sys
from pathlib import Path


def main() -> None:
    """Do all of it."""
    raw, work, n_steps = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    for name, folder in (
        ("raw", raw.parent),
        ("preprocessed", work / "p"),
        ("results", work / "r"),
    ):
        os.environ[f"nnUNet_{name}"] = str(folder)
    os.environ |= {"nnUNet_compile": "f", "nnUNet_n_proc_DA": "1"}
    # nnU-Net reads its folders from the environment when it is imported.
    import torch
    from nnunetv2.evaluation.evaluate_predictions import (
        compute_metrics_on_folder_simple,
    )
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
    preprocessed = work / "p" / raw.name
    plans = json.loads((preprocessed / "nnUNetPlans.json").read_text())
    description = json.loads((preprocessed / "dataset.json").read_text())
    plans["continue_training"] = False
    device = torch.device("cpu")
    trainer = nnUNetTrainer(plans, "3d_fullres", 0, description, device)
    trainer.num_iterations_per_epoch = n_steps
    trainer.num_val_iterations_per_epoch = 1
    trainer.num_epochs = 1
    trainer.initialize()
    trainer.run_training()

    splits = json.loads((preprocessed / "splits_final.json").read_text())
    references, predictions = work / "references", work / "predictions"
    references.mkdir(parents=True)
    images = []
    for case in splits[0]["val"]:
        shutil.copy(raw / "labelsTr" / f"{case}.nii.gz", references)
        images.append([str(raw / "imagesTr" / f"{case}_0000.nii.gz")])
    predictor = nnUNetPredictor(use_mirroring=False, device=device, allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(
        trainer.output_folder_base, (0,), "checkpoint_final.pth"
    )
    predictor.predict_from_files(
        images, str(predictions), num_processes_preprocessing=1, num_processes_segmentation_export=1
    )
    compute_metrics_on_folder_simple(
        str(references), str(predictions), (1, 2), str(work / "summary.json"), num_processes=2
    )


if __name__ == "__main__":
    main()
