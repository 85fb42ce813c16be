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


def test_an_earlier_parent_is_taken_up_again_with_all_it_knew(tmp_path):
    first = _begin(tmp_path)
    update(tmp_path, lambda s: s.model_copy(update={"last_steps": {"loss": 3}}))
    second = _begin(tmp_path, new_parent=True)
    again = _begin(tmp_path, parent=first.parent)
    assert (again.parent, again.last_steps) == (first.parent, {"loss": 3})
    assert _begin(tmp_path).parent == first.parent
    assert _begin(tmp_path, parent=second.parent).parent == second.parent
    # Unknown here, as after a move: the present one goes on.
    assert _begin(tmp_path, parent="somewhere else").parent == second.parent


def test_a_damaged_state_is_a_new_beginning(tmp_path):
    _begin(tmp_path)
    (tmp_path / "state.json").write_text('{"uri": ')
    assert read_state(tmp_path) is None
    assert _begin(tmp_path).last_steps == {}


def test_keys_differ():
    assert len({new_key() for _ in range(1000)}) == 1000
