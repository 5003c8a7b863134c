"""The packaged concepts on the packaged base: who is drawn by hand stands there, and a series keeps its picture."""

from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from d2plan.backbone.load import Backbone, load_backbone
from d2plan.documents import Instance, Scene, Series, Variant
from d2plan.eval.judge import Judge, load_judge
from d2plan.media.images import read_image
from d2plan.workflows.composing.compose import compose_all
from d2plan.workflows.composing.series import compose_series

GUESTS = Path(str(files("d2plan"))) / "assets" / "demo"
LEFT, RIGHT = (0.02, 0.15, 0.5, 0.98), (0.5, 0.15, 0.98, 0.98)


@pytest.fixture(scope="module")
def mini() -> Backbone:
    """The packaged base."""
    return load_backbone("mini")


@pytest.fixture(scope="module")
def judge() -> Judge:
    """The packaged judge."""
    return load_judge()


def _instances(sams: str, mias: str, **places: tuple[float, ...]) -> tuple[Instance, ...]:
    said = {"sam": f"a photo of a <v3> man {sams}", "mia": f"a photo of a <v4> woman {mias}"}
    return tuple(
        Instance(concept=str(GUESTS / f"{name}.safetensors"), sub_prompt=text, box=places.get(name))
        for name, text in said.items()
    )


def test_boxes_put_each_on_its_side_whatever_the_layout(mini: Backbone, judge: Judge, tmp_path: Path) -> None:
    prompt = "a photo of a man and a woman on the beach"
    scenes = [
        Scene(global_prompt=prompt, instances=_instances("waving", "sitting", sam=sam, mia=mia), seed=seed)
        for seed in (1, 2)
        for sam, mia in ((LEFT, RIGHT), (RIGHT, LEFT))
    ]
    runs = compose_all(scenes, [tmp_path / str(number) for number in range(4)], backbone=mini)
    for run, wanted in zip(runs, [["man", "woman"], ["woman", "man"]] * 2, strict=True):
        assert [one.class_word for one in judge.judge(read_image(run / "image.png")).instances] == wanted


def test_a_changed_sub_prompt_leaves_what_is_outside_the_figure(mini: Backbone, judge: Judge, tmp_path: Path) -> None:
    series = Series(
        global_prompt="a photo of a man and a woman in the snow",
        instances=_instances("waving", "smiling"),
        seed=3,
        variants=(
            Variant(name="was"),
            Variant(name="now", sub_prompts=(None, "a photo of a <v4> woman wearing a red hat")),
        ),
    )
    folder = compose_series(series, tmp_path / "out", backbone=mini).folder
    was, now = (read_image(folder / name / "image.png") for name in ("was", "now"))
    gap = np.abs(was.astype(float) - now).mean(axis=-1) / 255
    column = read_image(folder / "now" / "masks" / "01.png")[..., 0] > 127
    assert 0.2 < column.mean() < 0.5 and gap[~column].mean() < 0.02
    # The column holds the scene behind her too, which stays as well.
    (before,), (after,) = ([one for one in judge.judge(x).instances if one.class_word == "woman"] for x in (was, now))
    figure = before.mask | after.mask
    assert after.accessory == "hat"
    assert gap[~figure].mean() < 0.02 < gap[figure].mean()
