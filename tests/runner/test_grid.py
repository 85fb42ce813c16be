"""Grids: how they are read, what they are refused for, and how combinations are named."""

import pytest

from pipeline.core.errors import ConfigError
from pipeline.runner.grid import folder_name, read_grid, setting_name, with_setting
from pipeline.runner.request import make_request

RATES = "train.optimizer.learning_rate=1e-3,3e-3"


def test_a_grid_on_the_command_line():
    grid = read_grid(f"{RATES}; train.patch_size=[16,16,16],[8,8,8]")
    assert grid.combinations == [
        {"train.optimizer.learning_rate": rate, "train.patch_size": size}
        for rate in (0.001, 0.003)
        for size in ([16, 16, 16], [8, 8, 8])
    ]


def test_a_grid_that_gets_more_values_keeps_its_folder():
    grid = read_grid(f"{RATES};train.seed=0,1")
    assert grid.name == read_grid(f"train.seed=0,1,2;{RATES},1e-2").name
    assert grid.name.startswith("learning_rate_seed-")
    assert grid.name != read_grid(RATES).name
    assert grid.name != read_grid("train.seed=0,1").name


def test_a_grid_in_a_file(tmp_path):
    file = tmp_path / "losses.yaml"
    file.write_text("train.loss.kind: [dice, dice_ce]\ntrain.seed: [0, 1, 2]\n")
    grid = read_grid(str(file))
    assert grid.name == "losses"
    assert len(grid.combinations) == 6
    assert grid.combinations[1] == {"train.loss.kind": "dice", "train.seed": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train.seed=" + ",".join(map(str, range(65))), "1 to 64 combinations, not 65"),
        (";", "cannot be read"),
        ("=1", "cannot be swept"),
        ("optimizer.learning_rate=1,2", "not in the section train"),
        ("train.seed=", "no list of different values"),
        ("train.seed=1,1", "no list of different values"),
        ("train.seed=1;train.seed=2", "twice"),
        ("train.seed=1;nonsense", "cannot read 'nonsense'"),
        ("train.seed=[1", "not valid YAML"),
        ("train.fold=0,1", "share their cases"),
        ("ingest.layout=auto,nnunet", "cannot be swept"),
        ("nowhere.yaml", "cannot be read"),
    ],
)
def test_what_is_no_grid_is_refused(text, message):
    with pytest.raises(ConfigError, match=message):
        read_grid(text)


@pytest.mark.parametrize(
    ("content", "message"),
    [("- 1\n", "no mapping"), ("{}\n", "not 0"), ("train.seed: 3\n", "no list of different")],
)
def test_what_is_no_grid_in_a_file_is_refused(tmp_path, content, message):
    file = tmp_path / "grid.yaml"
    file.write_text(content)
    with pytest.raises(ConfigError, match=message):
        read_grid(str(file))


def test_folders_of_combinations_are_short_safe_and_their_own():
    one = folder_name({"train.warm_start": "/a/b c.pt", "train.seed": 1})
    assert "/" not in one
    assert " " not in one
    assert one.startswith("seed=1_warm_start=_a_b_c.pt-")
    assert one != folder_name({"train.warm_start": "/a/b_c.pt", "train.seed": 1})
    assert len(folder_name({"train.warm_start": "x" * 500})) < 100


def test_the_order_of_keys_makes_no_other_combination():
    one, two = {"train.seed": 1, "train.loss.kind": "dice"}, {"train.loss.kind": "dice"}
    assert folder_name(one) == folder_name({**two, "train.seed": 1})


def test_a_key_without_its_section_is_completed():
    with pytest.raises(ConfigError) as refused:
        read_grid("optimizer.learning_rate=1e-3,3e-3")
    assert "train.optimizer.learning_rate" in refused.value.fix


def test_a_grid_longer_than_a_file_name_is_read():
    values = ",".join(str(100_000 + n) for n in range(60))
    assert len(values) > 255
    assert len(read_grid(f"train.seed={values}").combinations) == 60


def test_keys_with_the_same_last_word_stay_apart():
    setting = {"train.loss.kind": "dice", "train.network.kind": "unet"}
    assert setting_name(setting) == "loss.kind=dice,network.kind=unet"
    assert setting_name({"train.loss.kind": "dice"}) == "kind=dice"


def test_a_key_below_a_value_is_refused(tmp_path):
    request = make_request(None, tmp_path / "work", None, ["train.steps=9"])
    with pytest.raises(ConfigError, match=r"'steps' in 'train\.steps\.x' has no keys below it"):
        with_setting(request, {"train.steps.x": 1}, "--sweep")
