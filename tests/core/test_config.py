"""YAML to strict models: what is accepted, and what the error says otherwise."""

from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from pipeline.core.config import StrictModel, dump_yaml, load_config, validate_config
from pipeline.core.errors import EXIT_USAGE, ConfigError


class Sgd(StrictModel):
    kind: Literal["sgd"] = "sgd"
    learning_rate: float = 0.01
    momentum: float = 0.9


class Adam(StrictModel):
    kind: Literal["adam"] = "adam"
    learning_rate: float = 0.001
    weight_decay: float = 0.0


class Waiver(StrictModel):
    check_id: str
    reason: str = "known"


class Train(StrictModel):
    epochs: int | None = Field(default=None, ge=1)
    fold: str = "0"
    patch_size: tuple[int, int, int] | None = None
    optimizer: Annotated[Sgd | Adam, Field(discriminator="kind")] = Sgd()
    mirror: bool = True
    waivers: tuple[Waiver, ...] = ()


class Root(StrictModel):
    name: str = "run"
    folder: Path = Path("runs")
    notes: dict[str, str] = Field(default_factory=dict)
    train: Train = Train()


def load(tmp_path: Path, text: str, *overrides: str) -> Root:
    file = tmp_path / "experiment.yaml"
    file.write_text(text, encoding="utf-8")
    return load_config(Root, file, overrides)


def refusal(tmp_path: Path, text: str, *overrides: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text, *overrides)
    assert caught.value.exit_status == EXIT_USAGE
    return caught.value


def test_no_file_gives_the_defaults():
    assert load_config(Root, None) == Root()


def test_numbers_and_words_are_what_yaml_1_2_says(tmp_path):
    config = load(
        tmp_path, "name: yes\nfolder: /data/x\ntrain: {optimizer: {kind: sgd, learning_rate: 1e-3}}"
    )
    assert config.name == "yes"
    assert config.train.optimizer.learning_rate == 0.001
    assert config.folder == Path("/data/x")


def test_lists_become_tuples(tmp_path):
    assert load(tmp_path, "train: {patch_size: [1, 2, 3]}").train.patch_size == (1, 2, 3)


@pytest.mark.parametrize(
    "text", ["", "# nothing\n", "train:\n", "train:\n  # epochs: 3\nname: run\n"]
)
def test_empty_files_and_sections_mean_the_defaults(tmp_path, text):
    assert load(tmp_path, text) == Root()
    assert load(tmp_path, text, "train.epochs=4").train.epochs == 4


@pytest.mark.parametrize(
    ("text", "where", "suggestion"),
    [
        ("nmae: x", "experiment.yaml", "'name'"),
        ("train: {epoch: 3}", "train", "'epochs'"),
        ("train: {optimizer: {kind: adam, lerning_rate: 1}}", "train.optimizer", "'learning_rate'"),
        ("train: {optimizer: {kind: adam, wieght_decay: 1}}", "train.optimizer", "'weight_decay'"),
        ("train: {waivers: [{chek_id: G01}]}", "train.waivers", "'check_id'"),
    ],
)
def test_a_misspelt_key_is_named_with_its_place_and_the_nearest_key(
    tmp_path, text, where, suggestion
):
    error = refusal(tmp_path, text)
    assert "unknown key" in error.what or "check_id" in error.what
    assert where in error.where
    if "unknown key" in error.what:
        assert suggestion in error.fix


def test_a_key_unlike_any_other_lists_what_is_accepted(tmp_path):
    error = refusal(tmp_path, "train: {zzz: 1}")
    assert "epochs" in error.fix
    assert "optimizer" in error.fix


def test_an_unknown_section_without_content_is_not_overlooked(tmp_path):
    assert "trian" in refusal(tmp_path, "trian:\n").what


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('train: {mirror: "True"}', "train.mirror"),
        ("train: {mirror: yes}", "train.mirror"),
        ("train: {epochs: 0}", "train.epochs"),
        ("train: {epochs: 2.5}", "train.epochs"),
        ('train: {epochs: "3"}', "train.epochs"),
        ("train: {fold: 0}", "train.fold"),
        ("train: {patch_size: [1, 2]}", "train.patch_size"),
        ("train: {optimizer: {kind: lion}}", "train.optimizer"),
        ("train: 3", "train"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused_by_name(tmp_path, text, key):
    assert key in refusal(tmp_path, text).what


def test_several_faults_are_counted(tmp_path):
    assert "and 1 more" in refusal(tmp_path, "train: {epoch: 3, folds: 1}").what


@pytest.mark.parametrize(
    "text", ["a: [1, 2", "- 1\n- 2\n", "just words", "name: a\nname: b\n", "\tname: x"]
)
def test_what_is_no_mapping_is_refused_with_the_file(tmp_path, text):
    error = refusal(tmp_path, text)
    assert "experiment.yaml" in error.where
    assert error.fix


def test_missing_and_binary_files_are_named(tmp_path):
    with pytest.raises(ConfigError, match="cannot read"):
        load_config(Root, tmp_path / "absent.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(ConfigError, match=r"binary\.yaml"):
        load_config(Root, tmp_path / "binary.yaml")


def test_overrides_win_over_the_file_and_reach_nested_keys(tmp_path):
    config = load(
        tmp_path,
        "train: {epochs: 3}",
        "train.epochs=5",
        "train.optimizer.kind=adam",
        "train.optimizer.learning_rate=3e-4",
        'train.fold="all"',
        "train.patch_size=[8, 16, 24]",
        "name=a=b",
    )
    assert config.train.epochs == 5
    assert config.train.optimizer == Adam(learning_rate=3e-4)
    assert config.train.patch_size == (8, 16, 24)
    assert config.name == "a=b"


@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("train.epochs", "override"),
        ("=3", "override"),
        ("train.epochs.x=3", "epochs"),
        ("train.epohcs=3", "epohcs"),
        ("train.epochs=many", "train.epochs"),
    ],
)
def test_a_bad_override_is_refused(tmp_path, override, part):
    assert part in refusal(tmp_path, "train: {epochs: 3}", override).what


def test_an_override_that_is_no_yaml_is_taken_as_text(tmp_path):
    assert load(tmp_path, "", "name=a: [b").name == "a: [b"


# Surrogates cannot be written as UTF-8 at all.
texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
awkward = st.sampled_from(["0", "1e-3", "yes", "null", "~", "", "true", "1.0", "- a", "a: b", "#x"])
optimizers = st.one_of(
    st.builds(Sgd, learning_rate=st.floats(allow_nan=False, allow_infinity=False)),
    st.builds(Adam, weight_decay=st.floats(1e-300, 1e300)),
)


@given(
    st.builds(
        Root,
        name=texts | awkward,
        notes=st.dictionaries(texts | awkward, texts | awkward, max_size=3),
        train=st.builds(
            Train,
            epochs=st.none() | st.integers(1, 10**9),
            fold=texts | awkward,
            patch_size=st.none() | st.tuples(*[st.integers()] * 3),
            optimizer=optimizers,
            mirror=st.booleans(),
            waivers=st.tuples(st.builds(Waiver, check_id=awkward)) | st.just(()),
        ),
    )
)
def test_dumping_and_loading_is_identity(tmp_path_factory, config):
    file = tmp_path_factory.mktemp("dump") / "x.yaml"
    file.write_bytes(dump_yaml(config).encode("utf-8"))
    assert load_config(Root, file) == config


def test_models_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        Root().name = "other"  # type: ignore[misc]  # that it fails is the test


def test_plain_data_is_validated_the_same_way():
    assert validate_config(Train, {"patch_size": [1, 2, 3]}, "here").patch_size == (1, 2, 3)
    with pytest.raises(ConfigError, match="here"):
        validate_config(Train, {"patch": 1}, "here")
