from dataclasses import replace

from evaluate_builders import cases_of, with_lesions, with_surfaces

from pipeline.evaluate.per_class import sort_by_class


def test_every_score_comes_under_its_class_in_the_order_of_the_cases():
    cases = cases_of(a=[0.5, 0.6, None], b=[0.7, "missed", 0.8])
    cases = (with_surfaces(cases[0]), with_lesions(cases[1], "b", n=2, n_found=1, n_false=0))
    found = sort_by_class(cases, ("b", "a", "c"))
    assert list(found) == ["b", "a", "c"]
    assert [case_id for case_id, _ in found["a"].overlaps] == ["c00", "c01"]
    assert [s.dice.value for _, s in found["b"].overlaps] == [0.7, 0.0]
    assert len(found["a"].surfaces) == 1
    assert [s.n_detected for s in found["b"].lesions] == [1]
    assert found["c"].overlaps == ()


def test_classes_nobody_asks_for_are_left_out():
    (case,) = cases_of(a=[0.5])
    found = sort_by_class((replace(case, surfaces=with_surfaces(case).surfaces),), ())
    assert found == {}
