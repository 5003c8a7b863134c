import numpy as np
import pytest

from d2plan.errors import FileError, InputError
from d2plan.eval.judge import load_judge, to_pixels
from d2plan.eval.lineup import FAR, NEAR, build_lineup, embed_references
from d2plan.eval.metrics import cosine
from d2plan.world.cast import ACTIONS, CLASSES, near_identity, sample_identity
from d2plan.world.scene import sample_scene
from d2plan.world.scenery import LIGHTS, PLACES
from d2plan.world.seeds import stream_rng
from d2plan.world.truth import render

COUNT = 96


@pytest.fixture(scope="module")
def judge():
    return load_judge()


@pytest.fixture(scope="module")
def single_scenes():
    rng = stream_rng("heldout", 910)
    return [sample_scene(rng, [sample_identity(CLASSES[number % len(CLASSES)], rng)]) for number in range(COUNT)]


@pytest.fixture(scope="module")
def verdicts(judge, single_scenes):
    return judge.judge_many([render(scene).image for scene in single_scenes])


def share(values):
    return float(np.mean(list(values)))


def test_it_knows_places_and_lights(single_scenes, verdicts):
    assert share(seen.place == scene.place for scene, seen in zip(single_scenes, verdicts, strict=True)) >= 0.98
    assert share(seen.light == scene.light for scene, seen in zip(single_scenes, verdicts, strict=True)) >= 0.98


def test_it_finds_the_one_instance_and_its_class(single_scenes, verdicts):
    assert share(seen.count == 1 for seen in verdicts) >= 0.95
    found = [
        seen.count > 0 and scene.figures[0].class_word in {one.class_word for one in seen.instances}
        for scene, seen in zip(single_scenes, verdicts, strict=True)
    ]
    assert share(found) >= 0.96


def test_it_reads_what_is_worn_and_done(single_scenes, verdicts):
    pairs = [
        (scene.figures[0], seen.instances[0])
        for scene, seen in zip(single_scenes, verdicts, strict=True)
        if seen.count == 1
    ]
    assert share(seen.accessory == figure.accessory for figure, seen in pairs) >= 0.94
    assert share(seen.action == figure.action for figure, seen in pairs) >= 0.94


def test_two_of_one_class_are_two(judge):
    rng = stream_rng("heldout", 911)
    scenes = [sample_scene(rng, [sample_identity(word, rng) for _ in range(2)]) for word in (*CLASSES, *CLASSES)]
    assert share(seen.count == 2 for seen in judge.judge_many([render(scene).image for scene in scenes])) >= 0.94


def test_a_verdict_speaks_the_worlds_words(verdicts):
    for verdict in verdicts:
        assert verdict.place in PLACES and verdict.light in LIGHTS
        assert [one.x for one in verdict.instances] == sorted(one.x for one in verdict.instances)
        for one in verdict.instances:
            assert one.action in ACTIONS[one.class_word]
            assert (one.accessory is None) == (one.accessory_colour is None)
            assert float(np.linalg.norm(one.embedding)) == pytest.approx(1.0, abs=1e-4)
            assert one.mask.shape == (128, 128) and one.mask.any()
            assert 0 <= one.confidence <= 1


def test_together_is_as_one_by_one(judge, single_scenes, verdicts):
    for scene, together in zip(single_scenes[:4], verdicts, strict=False):
        alone = judge.judge(render(scene).image)
        assert [one.class_word for one in alone.instances] == [one.class_word for one in together.instances]
        for first, second in zip(alone.instances, together.instances, strict=True):
            assert np.allclose(first.embedding, second.embedding, atol=1e-3)


def test_masks_and_boxes_are_in_the_pictures_own_pixels(judge, single_scenes):
    truth = render(single_scenes[0], 256)
    (one,) = judge.judge(truth.image).instances
    true = truth.masks[0] > 0.5
    assert one.mask.shape == (256, 256)
    assert (one.mask & true).sum() / (one.mask | true).sum() > 0.6
    assert np.allclose(one.box, truth.boxes[0], atol=24)


def test_a_character_is_most_like_itself(judge):
    firsts = []
    for number, word in enumerate(CLASSES):
        rng = stream_rng("heldout", 912, number)
        identity, stranger = sample_identity(word, rng), sample_identity(word, rng)
        views = [
            embed_references(judge, word, [render(sample_scene(rng, [who])).image for _ in range(3)])
            for who in (identity, identity, stranger)
        ]
        firsts.append(cosine(views[0], views[1]) > cosine(views[0], views[2]))
    assert share(firsts) >= 0.9


def test_a_line_up_holds_twenty(judge):
    rng = stream_rng("heldout", 913)
    identity = sample_identity("dog", rng)
    images = [render(sample_scene(rng, [identity])).image for _ in range(3)]
    lineup = build_lineup(judge, "dog", images, identity)
    assert (len(lineup.near), len(lineup.far), lineup.reference.shape) == (NEAR, FAR, (64,))
    near = np.mean([cosine(lineup.reference, other) for other in lineup.near])
    far = np.mean([cosine(lineup.reference, other) for other in lineup.far])
    assert near > far
    assert near_identity(identity, rng).class_word == "dog"


def test_references_without_the_class_are_refused(judge, single_scenes):
    image = np.full((128, 128, 3), 128, np.uint8)
    with pytest.raises(InputError, match="references"):
        embed_references(judge, "dog", [image])


@pytest.mark.parametrize("picture", [np.zeros((8, 8, 3)), np.zeros((8, 8), np.uint8), np.zeros((8, 8, 4), np.uint8)])
def test_what_is_no_picture_is_refused(judge, picture):
    with pytest.raises(InputError, match="uint8"):
        judge.judge(picture)


def test_a_missing_judge_is_told(tmp_path):
    with pytest.raises(FileError, match="segmenter"):
        load_judge(tmp_path)


@pytest.mark.parametrize(
    ("size", "goal"),
    [((128, 128), (128, 128)), ((1024, 1024), (128, 128)), ((64, 100), (128, 192)), ((600, 300), (256, 128))],
)
def test_pictures_come_to_the_judges_size(size, goal):
    assert tuple(to_pixels(np.zeros((*size, 3), np.uint8)).shape) == (3, *goal)
