"""What two records differ in, in words."""

from d2plan.documents import AdapterUse, Control, FileUse, Instance, MaskReport, RunRecord, Scene
from d2plan.workflows.composing.differences import compare_machines, compare_requests


def _record(place: str = "/one", digit: str = "a", **changes: object) -> RunRecord:
    scene = Scene(
        base=f"{place}/sdxl",
        global_prompt="a dog",
        instances=(Instance(concept=f"{place}/rex.safetensors", class_word="dog", sub_prompt="a <v2> dog"),),
        controls=(Control(model=f"{place}/pose", image=f"{place}/pose.png"),),
        steps=9,
        seed=3,
    ).model_copy(update=changes)
    path = f"{place}/rex.safetensors"
    return RunRecord(
        scene=scene,
        base_fingerprint="f" * 16,
        adapters=(AdapterUse(path=path, name="rex", sha256=digit * 64, class_word="dog", identifier="<v2>"),),
        files=(FileUse(field="controls[0].image", path=f"{place}/pose.png", sha256=digit * 64),),
        masks=MaskReport(route="attention", confidence=0.5),
        versions={"torch": "2.13.0"},
        machine={"device": "cpu"},
        settings={"feather": "0.0"},
        seed=3,
    )


def test_where_files_lie_does_not_count() -> None:
    assert compare_requests(_record("/one"), _record("/two")) == ()


def test_what_files_hold_counts() -> None:
    assert compare_requests(_record(digit="a"), _record(digit="b")) == (
        "instances[0].concept (rex) has another content: SHA-256 was aaaaaaaaaaaa and is bbbbbbbbbbbb",
        "controls[0].image (/one/pose.png) has another content: SHA-256 was aaaaaaaaaaaa and is bbbbbbbbbbbb",
    )


def test_every_field_that_differs_is_named() -> None:
    (dog,) = _record().scene.instances
    changes = {"seed": 4, "instances": (dog.model_copy(update={"sub_prompt": "a <v2> dog sitting"}),)}
    assert compare_requests(_record(), _record(**changes)) == (
        "seed was 3 and is 4",
        "instances[0].sub_prompt was a <v2> dog and is a <v2> dog sitting",
    )
    other = _record().model_copy(update={"base_fingerprint": "0" * 16, "settings": {"feather": "0.1"}})
    assert compare_requests(_record(), other) == (
        f"the base's weights were {'f' * 16} and are {'0' * 16}",
        "feather was 0.0 and is 0.1",
    )


def test_an_instance_more_is_named() -> None:
    scene = _record().scene
    found = compare_requests(_record(), _record(instances=scene.instances * 2, global_prompt="a dog and a dog"))
    assert "instances[1].sub_prompt was None and is a <v2> dog" in found


def test_machines_are_compared_apart() -> None:
    other = _record().model_copy(update={"versions": {"torch": "3.0"}, "machine": {"device": "H100"}, "together": 4})
    assert compare_requests(_record(), other) == ()
    assert compare_machines(_record(), other) == (
        "torch was 2.13.0 and is 3.0",
        "device was cpu and is H100",
        "it was composed in one batch of 1 scenes, and now in one of 4",
    )
