"""Every snippet of docs/how-to/networks-and-losses.md plans, builds its network and has a loss."""

from pathlib import Path

import pytest
import torch
from fingerprints import make_row, make_task

from pipeline.experiment import load_experiment
from pipeline.models.networks import build_network
from pipeline.train.config import TrainConfig
from pipeline.train.learner import build_loss
from pipeline.train.plan import make_plan

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "how-to" / "networks-and-losses.md"
TEXT = PAGE.read_text(encoding="utf-8")
SNIPPETS = [block.split("```")[0] for block in TEXT.split("```yaml\n")[1:]]
# Sizes a snippet leaves open, so that every network is built in a moment.
PATCH = (32, 32, 32)


@pytest.mark.parametrize("snippet", SNIPPETS, ids=range(len(SNIPPETS)))
def test_a_snippet_plans_and_gives_a_loss_with_a_slope(snippet, tmp_path):
    file = tmp_path / "experiment.yaml"
    file.write_text(snippet, encoding="utf-8")
    experiment = load_experiment(file)
    assert experiment.train.model_fields_set or experiment.task.model_fields_set
    config = experiment.train
    config = config.model_copy(update={"patch_size": config.patch_size or PATCH})
    task = make_task("liver", "tumor")
    if experiment.task.ignore:
        task = task.model_copy(update={"ignore_values": tuple(experiment.task.ignore)})
    plan = make_plan([make_row(shape=PATCH)] * 3, task, config, "cpu")
    assert plan.patch_size == config.patch_size
    build_network(plan.network)
    loss = build_loss(plan, task, config.loss)
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn((2, 3, 8, 8, 8), generator=generator).requires_grad_()
    label = torch.randint(0, 3, (2, 8, 8, 8), generator=generator)
    loss(logits, label).total.backward()
    assert float(logits.grad.abs().sum()) > 0


def test_the_page_names_every_kind():
    for model in ("network", "loss"):
        kinds = TrainConfig.model_fields[model].annotation.model_fields["kind"].annotation
        names = [name for part in kinds.__args__ for name in getattr(part, "__args__", (part,))]
        assert [name for name in names if f"`{name}`" not in TEXT] == []


def test_the_readme_links_the_page():
    assert "docs/how-to/networks-and-losses.md" in (ROOT / "README.md").read_text(encoding="utf-8")
