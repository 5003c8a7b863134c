"""The account of masks: names that files can have."""

from d2plan.isp.partition import name_instances


def test_names_are_unique_and_fit_for_files() -> None:
    names = name_instances(["man", "Man", "../etc/x", "café ☕", "☕", "dog" * 40])
    assert names == ("man-1", "man-2", "etc-x", "café", "instance", ("dog" * 40)[:40])


def test_names_that_become_alike_are_numbered() -> None:
    assert name_instances(["a b", "a-b", "c"]) == ("a-b-1", "a-b-2", "c")
    assert name_instances(["man", "man", "man-1"]) == ("man-1", "man-2", "man-1-1")


def test_nobody_has_no_name() -> None:
    assert name_instances([]) == ()
