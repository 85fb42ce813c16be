"""What the design promises about the code itself: layers, light start, mirrored tests, knobs."""

import ast
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.core.config import StrictModel

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(
    file
    for file in (ROOT / "pipeline").rglob("*.py")
    if file.name not in ("__init__.py", "__main__.py")
)
# Modules whose behaviour is tested under another name; the reason stands beside each.
TESTED_ELSEWHERE: dict[str, str] = {
    "pipeline.cli_options": "tests/test_cli.py: every command uses them",
    "pipeline.cli_train": "tests/test_cli.py: whole commands",
    "pipeline.train.rounds": "tests/train/test_stage.py: whole trainings, stopped and resumed",
    "pipeline.train.snapshot": "tests/train/test_stage.py: whole trainings, stopped and resumed",
    "pipeline.models.loss_kinds": "tests/models/test_losses.py: every kind, held against MONAI",
    "pipeline.core.artifact": "tests/test_artifacts.py: files of every kind, read and refused",
    "pipeline.models.segment": "tests/infer/test_predict.py: prediction in all orientations",
    "pipeline.runner.audits": "tests/test_cli_audits.py: whole commands",
    "pipeline.runner.labels": "tests/test_cli_audits.py: label files alone and before scoring",
    "pipeline.runner.runs": "tests/test_cli_runs.py: whole commands",
    "pipeline.runner.around": "tests/test_cli.py: the records every stage leaves",
    "pipeline.runner.commands": "tests/test_cli.py: whole commands",
    "pipeline.runner.request": "tests/test_cli.py: which folders and models are used",
    "pipeline.train.config": "tests/test_cli.py and tests/test_experiment.py",
    "pipeline.train.loop": "tests/train/test_stage.py: whole trainings, stopped and resumed",
    "pipeline.train.prepare": "tests/train/test_data.py: beside the batches made of it",
    "pipeline.train.report": "tests/test_cli.py: the table on stdout",
    "pipeline.train.select": "tests/train/test_stage.py: refusals and folds",
    "pipeline.train.state": "tests/train/test_stage.py: what a checkpoint brings back",
    "pipeline.transforms.config": "tests/train/test_stage.py: values that are refused",
}

MAX_FILE_LINES = 400
HEAVY = ("torch", "monai", "mlflow", "matplotlib", "SimpleITK", "scipy", "sklearn", "pandas")


def name_of(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts)


def has_configuration(file: Path) -> bool:
    return file.name == "config.py" or name_of(file) in (
        "pipeline.experiment",
        "pipeline.core.task",
    )


CONFIG_MODULES = [
    name_of(file)
    for file in MODULES
    if has_configuration(file) and name_of(file) != "pipeline.core.config"
]


def has_behaviour(file: Path) -> bool:
    """Whether a module holds any function; pure declarations need no test of their own."""
    nodes = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
    return any(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) for node in nodes)


def config_models(module_name: str) -> list[type[StrictModel]]:
    module = importlib.import_module(module_name)
    return [
        kind
        for kind in vars(module).values()
        if isinstance(kind, type)
        and issubclass(kind, StrictModel)
        and kind.__module__ == module_name
        and (module_name != "pipeline.core.task" or kind.__name__.endswith("Config"))
    ]


@pytest.mark.parametrize("module_name", CONFIG_MODULES)
def test_every_knob_is_described(module_name):
    models = config_models(module_name)
    assert models
    missing = [
        f"{model.__name__}.{name}"
        for model in models
        for name, field in model.model_fields.items()
        if not field.description
    ]
    assert missing == []


def test_every_module_has_a_test_file():
    missing = []
    for file in MODULES:
        inside = file.relative_to(ROOT / "pipeline")
        mirror = ROOT / "tests" / inside.parent / f"test_{inside.name}"
        if not has_behaviour(file) or name_of(file) in TESTED_ELSEWHERE:
            continue
        if not mirror.is_file():
            missing.append(str(mirror.relative_to(ROOT)))
    assert not missing, "no test file:\n" + "\n".join(missing)


def test_the_list_of_exceptions_is_not_stale():
    names = {name_of(file) for file in MODULES}
    assert set(TESTED_ELSEWHERE) <= names


@pytest.mark.parametrize("module_name", ["pipeline.cli", "pipeline.__main__"])
def test_starting_the_command_line_imports_nothing_heavy(module_name):
    code = (
        f"import sys, json; import {module_name};"
        f"print(json.dumps(sorted(set({HEAVY!r}) & set(sys.modules))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True, cwd=ROOT
    )
    assert json.loads(done.stdout) == []


def test_layers_hold():
    linter = Path(sys.executable).with_name("lint-imports")
    if not linter.is_file():
        pytest.skip("import-linter is not installed")
    done = subprocess.run(
        [str(linter), "--no-cache"], capture_output=True, check=False, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("file", MODULES, ids=name_of)
def test_a_module_is_short_and_says_what_it_is(file):
    text = file.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MAX_FILE_LINES
    tree = ast.parse(text)
    assert ast.get_docstring(tree)
    for node in ast.walk(tree):
        # Postponed annotations would switch the run-time shape checks off.
        assert not (isinstance(node, ast.ImportFrom) and node.module == "__future__")
        # Asserts vanish under python -O; errors of the tree in core/errors.py do not.
        assert not isinstance(node, ast.Assert)


@pytest.mark.parametrize("file", sorted((ROOT / "pipeline").rglob("__init__.py")), ids=name_of)
def test_packages_hold_a_docstring_only(file):
    body = ast.parse(file.read_text(encoding="utf-8")).body
    assert len(body) == 1
    assert ast.get_docstring(ast.Module(body, []))


def test_there_is_no_drawer_for_odds_and_ends():
    names = {file.stem for file in MODULES}
    assert names.isdisjoint({"utils", "util", "helpers", "misc", "common"})


def test_tests_are_no_packages():
    assert list((ROOT / "tests").rglob("__init__.py")) == []
