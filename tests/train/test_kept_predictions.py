"""A final validation that is stopped goes on where it was; its scores are those of one run."""

import numpy as np
import pytest
from models_builders import model_info
from workfolders import audited, quick, sharing

from pipeline.core.errors import InterruptedByUserError
from pipeline.core.tracker import NullTracker
from pipeline.models.networks import build_network
from pipeline.train import stage
from pipeline.train.kept_predictions import KeptPredictions, drop_kept
from pipeline.train.select import select_training
from pipeline.train.stage import train
from pipeline.train.validate import Validator


@pytest.fixture
def network():
    return build_network(model_info().plan.network)


def test_predictions_are_read_as_they_were_written(tmp_path, network):
    kept = KeptPredictions(tmp_path, network)
    assert kept.n_kept(3) == 0
    rng = np.random.default_rng(0)
    written = [rng.integers(0, 300, (4, 5, 6)).astype(kind) for kind in (np.uint16, np.int64)]
    for index, prediction in enumerate(written):
        kept.keep(index, prediction)
    assert KeptPredictions(tmp_path, network).n_kept(3) == 2
    assert KeptPredictions(tmp_path, network).n_kept(1) == 1
    for index, prediction in enumerate(written):
        read = kept.read(index)
        assert read.dtype == prediction.dtype
        np.testing.assert_array_equal(read, prediction)
    drop_kept(tmp_path)
    assert kept.n_kept(3) == 0


def test_other_weights_have_no_predictions(tmp_path, network):
    KeptPredictions(tmp_path, network).keep(0, np.zeros((2, 2, 2), np.uint8))
    next(network.parameters()).data[0] += 1e-3
    assert KeptPredictions(tmp_path, network).n_kept(1) == 0


@pytest.mark.parametrize("n_bytes", [0, 10, 60])
def test_a_torn_file_is_predicted_again(tmp_path, network, n_bytes, caplog):
    kept = KeptPredictions(tmp_path, network)
    for index in range(2):
        kept.keep(index, np.arange(8, dtype=np.uint8).reshape(2, 2, 2))
    file = sorted((tmp_path / "unfinished").rglob("*.gz"))[0]
    file.write_bytes(file.read_bytes()[:n_bytes])
    assert kept.n_kept(2) == 0
    assert "predicted again" in caplog.text


def test_a_stopped_validation_goes_on_with_the_next_case(tmp_path, monkeypatch):
    pristine = audited(tmp_path / "data", n_cases=8)
    config = quick(n_validation_cases=1)
    whole, stopped = (sharing(pristine, tmp_path / name) for name in ("whole", "stopped"))
    expected = train(select_training(config, whole), whole, NullTracker()).card

    predicted = []
    real_predict, real_scores = Validator.predict, stage._final_scores

    def count(self, network, case):
        predicted.append(case.record.case_id)
        return real_predict(self, network, case)

    def stop_after_one(parts, network, evidence, _):
        predicted.clear()
        return real_scores(parts, network, evidence, lambda: len(predicted) == 1)

    monkeypatch.setattr(Validator, "predict", count)
    monkeypatch.setattr(stage, "_final_scores", stop_after_one)
    with pytest.raises(InterruptedByUserError, match="final validation"):
        train(select_training(config, stopped), stopped, NullTracker())
    (first,) = predicted
    assert list(stopped.fold_dir("0").glob("validation/unfinished/*/*.gz"))

    def go_on(parts, network, evidence, should_stop):
        predicted.clear()
        return real_scores(parts, network, evidence, should_stop)

    monkeypatch.setattr(stage, "_final_scores", go_on)
    card = train(select_training(config, stopped), stopped, NullTracker()).card
    assert len(predicted) == card.validation.n_cases - 1
    assert first not in predicted
    assert card.validation == expected.validation
    assert card.info.cleanup == expected.info.cleanup
    assert not (stopped.fold_dir("0") / "validation" / "unfinished").exists()
