"""What is remembered between stages, and when it is forgotten."""

from pipeline.tracking.state import begin, new_key, read_state, update


def _begin(folder, **changes):
    wanted = {"uri": "sqlite:////a.db", "experiment": "voxline", "new_parent": False}
    return begin(folder, **(wanted | changes))


def test_the_parent_is_kept(tmp_path):
    first = _begin(tmp_path)
    update(tmp_path, lambda s: s.model_copy(update={"last_steps": {"loss": 3}}))
    again = _begin(tmp_path)
    assert again.parent == first.parent
    assert again.last_steps == {"loss": 3}


def test_another_parent_begins_empty(tmp_path):
    first = _begin(tmp_path)
    update(tmp_path, lambda s: s.model_copy(update={"last_steps": {"loss": 3}}))
    parents = {first.parent}
    for changes in ({"new_parent": True}, {"uri": "http://b"}, {"experiment": "other"}):
        state = _begin(tmp_path, **changes)
        assert state.last_steps == {}
        parents.add(state.parent)
    assert len(parents) == 4


def test_a_damaged_state_is_a_new_beginning(tmp_path):
    _begin(tmp_path)
    (tmp_path / "state.json").write_text('{"uri": ')
    assert read_state(tmp_path) is None
    assert _begin(tmp_path).last_steps == {}


def test_keys_differ():
    assert len({new_key() for _ in range(1000)}) == 1000
