#!/usr/bin/env bash
# Ten CPU minutes on Task04_Hippocampus, then `make evaluate` on cases the model was not trained on.
#   bash benchmarks/unseen_hippocampus.sh ../shared/data/Task04_Hippocampus
set -euo pipefail
cd "$(dirname "$0")/.."
data=$(realpath "${1:?folder of Task04_Hippocampus}")
work=runs/unseen_hippocampus
make train DATA="$data" WORK=$work ARGS="--set train.budget_minutes=10"
unseen=$work/Hippocampus_fold0
rm -rf $unseen && mkdir -p $unseen/imagesTr $unseen/labelsTr
for id in $(.venv/bin/python -c "
import json; print(*json.load(open('$work/audit/splits.json'))['folds'][0]['validation'])"); do
  cp "$data/imagesTr/$id.nii.gz" $unseen/imagesTr/
  cp "$data/labelsTr/$id.nii.gz" $unseen/labelsTr/
done
make evaluate DATA=$unseen WORK=$work
