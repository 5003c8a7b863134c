from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from d2plan.errors import InputError
from d2plan.eval.crops import cut_square
from d2plan.eval.encoders import open_clip, open_encoder
from d2plan.eval.judge import load_judge
from d2plan.eval.measure import Shown, measure_pictures, measure_series
from d2plan.eval.metrics import centre_of
from d2plan.eval.names import MEASURES
from d2plan.eval.panel import Panel, Spot, build_gallery
from d2plan.eval.score import Expectation, Expected, Lineup
from d2plan.world.cast import identity_from_seed
from d2plan.world.scene import sample_scene
from d2plan.world.seeds import stream_rng
from d2plan.world.truth import render
from tests.eval.tiny_encoders import write_tiny_clip, write_tiny_dino

BOXES = ((2.0, 4.0, 20.0, 30.0), (24.0, 4.0, 44.0, 30.0))


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoders")
    clip = open_clip(f"clip:{write_tiny_clip(folder / 'clip')}")
    return clip, open_encoder(f"dino:{write_tiny_dino(folder / 'vit')}")


@dataclass
class FixedFinder:
    """Finds a dog in each box, whatever the picture shows."""

    boxes: tuple = BOXES
    name: str = "fixed"
    asked: list = field(default_factory=list)

    def find(self, image, class_words):
        self.asked.append(class_words)
        return [Spot("dog", box) for box in self.boxes]


def blot(seed, size=(40, 48)):
    rng = np.random.default_rng(seed)
    return rng.normal(rng.uniform(0, 255, size=3), 50, size=(*size, 3)).clip(0, 255).astype(np.uint8)


def cosine(first, second):
    return float(first @ second / np.linalg.norm(first) / np.linalg.norm(second))


@pytest.fixture(scope="module")
def found_by_boxes(encoders):
    """A picture of two dogs, whose places a finder knows, and all that the panel says of it."""
    panel = Panel(*encoders, finder=FixedFinder())
    references = {"rex": [blot(1), blot(2)], "bo": [blot(3), blot(4), blot(5)]}
    galleries = {name: build_gallery(panel, name, "dog", images) for name, images in references.items()}
    image = blot(9)
    shown = Shown(
        image,
        "a photo of a dog and a dog on the beach",
        Expectation((Expected("dog", concept="rex", position="right"), Expected("dog", concept="bo"))),
        ("a dog wearing a red hat", None),
    )
    return panel, references, galleries, shown, measure_pictures(panel, [shown], galleries)[0]


def test_every_number_is_what_its_definition_says(found_by_boxes, encoders):
    _, references, _, shown, measured = found_by_boxes
    clip, dino = encoders
    whole, text = clip.embed_images([shown.image])[0], clip.embed_texts([shown.text])[0]
    assert measured.values["text"] == pytest.approx(cosine(whole, text), abs=1e-5)
    assert measured.values["text_scaled"] == pytest.approx(2.5 * max(cosine(whole, text), 0), abs=1e-5)
    for encoder, name in ((clip, "image"), (dino, "dino")):
        own = encoder.embed_images([shown.image])[0]
        means = [np.mean([cosine(own, row) for row in encoder.embed_images(images)]) for images in references.values()]
        assert measured.values[name] == pytest.approx(np.mean(means), abs=1e-5)
    rex = measured.instances[0]
    crop = cut_square(shown.image, BOXES[1])
    for encoder, name in ((clip, "image_instance"), (dino, "dino_instance")):
        cuts = [cut_square(image, max(BOXES, key=lambda box: box[2] - box[0])) for image in references["rex"]]
        rows, own = encoder.embed_images(cuts), encoder.embed_images([crop])[0]
        assert rex[name] == pytest.approx(np.mean([cosine(own, row) for row in rows]), abs=1e-5)
    phrase = clip.embed_texts(["a dog wearing a red hat"])[0]
    assert rex["text_instance"] == pytest.approx(cosine(clip.embed_images([crop])[0], phrase), abs=1e-5)
    assert "text_instance" not in measured.instances[1]


def test_identity_by_crops_compares_with_the_middle_of_the_references(found_by_boxes, encoders):
    _, _, galleries, shown, measured = found_by_boxes
    crops = encoders[1].embed_images([cut_square(shown.image, box) for box in BOXES])
    centres = {name: centre_of(gallery.crops["dino"]) for name, gallery in galleries.items()}
    rex, bo = measured.instances
    assert rex["identity_found"] == pytest.approx(cosine(crops[1], centres["rex"]), abs=1e-5)
    assert bo["identity_found"] == pytest.approx(cosine(crops[0], centres["bo"]), abs=1e-5)
    assert rex["confused"] == float(cosine(crops[1], centres["bo"]) > cosine(crops[1], centres["rex"]))
    least = min(max(one["identity_found"], 0) for one in measured.instances)
    assert measured.values["identity_least"] == pytest.approx(least, abs=1e-5)


def test_every_name_is_listed(found_by_boxes):
    measured = found_by_boxes[-1]
    assert set(measured.averaged) <= set(MEASURES)
    assert {name for one in measured.instances for name in one} <= {
        name for name, measure in MEASURES.items() if measure.of == "instance"
    }


def test_the_picture_has_the_means_of_its_instances(found_by_boxes):
    measured = found_by_boxes[-1]
    both = [one["dino_instance"] for one in measured.instances]
    assert measured.averaged["dino_instance"] == pytest.approx(np.mean(both))
    assert measured.averaged["text_instance"] == measured.instances[0]["text_instance"]


def test_together_or_alone_the_numbers_are_the_same(found_by_boxes):
    panel, _, galleries, shown, measured = found_by_boxes
    other = replace(shown, image=blot(10, (30, 50)), text="a cat")
    together = measure_pictures(panel, [other, shown], galleries)[1]
    assert together.averaged == pytest.approx(measured.averaged, abs=1e-5)


def test_what_is_not_found_has_no_number_and_counts_as_no_likeness(found_by_boxes):
    panel, _, galleries, shown, _ = found_by_boxes
    panel = replace(panel, finder=FixedFinder(BOXES[1:]))
    measured = measure_pictures(panel, [shown], galleries)[0]
    assert measured.found == (True, False)
    bo = measured.instances[1]
    assert (bo["image_instance"], bo["dino_instance"], bo["identity_found"]) == (None, None, None)
    assert (bo["identity"], bo["present"]) == (0.0, 0.0)
    assert measured.values["identity_least"] == 0.0
    assert measured.averaged["dino_instance"] == measured.instances[0]["dino_instance"]


def test_nothing_at_all_found_is_told_as_such(found_by_boxes):
    panel, _, galleries, shown, _ = found_by_boxes
    measured = measure_pictures(replace(panel, finder=FixedFinder(())), [shown], galleries)[0]
    assert measured.found == (False, False)
    assert measured.averaged["identity"] == 0.0
    assert measured.averaged["image_instance"] is None
    assert measured.values["image"] is not None


def test_a_concept_without_a_class_is_compared_as_a_whole_picture_alone(encoders):
    panel = Panel(*encoders, finder=FixedFinder())
    gallery = build_gallery(panel, "style", None, [blot(1)])
    assert not gallery.crops and gallery.identity is None
    assert "its class is not known" in gallery.notes[0]


def test_references_without_an_instance_are_counted(encoders):
    panel = Panel(*encoders, finder=FixedFinder(()))
    gallery = build_gallery(panel, "rex", "dog", [blot(1), blot(2)])
    assert gallery.notes == ("rex: no dog is found in 2 of 2 references",)
    assert gallery.whole["clip"].shape == (2, 16)


def test_nothing_is_missing_where_nobody_looks_for_it(encoders):
    for word in ("dog", "dragon", None):
        gallery = build_gallery(Panel(*encoders), "rex", word, [blot(1), blot(2)])
        assert gallery.notes == () and gallery.unfound == 0


def test_nobody_looking_measures_nothing(encoders):
    shown = Shown(blot(1), "a dog", Expectation((Expected("dog", concept="rex"),)))
    measured = measure_pictures(Panel(), [shown], {})[0]
    assert (measured.values, measured.instances, measured.found) == ({}, ({},), (None,))
    assert set(measure_pictures(Panel(clip=encoders[0]), [shown], {})[0].averaged) == {"text", "text_scaled"}


def test_an_encoder_without_texts_is_no_clip(encoders):
    with pytest.raises(InputError, match="cannot read texts"):
        Panel(clip=encoders[1])


def test_phrases_must_be_as_many_as_instances(encoders):
    with pytest.raises(InputError, match="1 phrases for 2 instances"):
        measure_pictures(
            Panel(*encoders), [Shown(blot(1), None, Expectation((Expected("dog"), Expected("cat"))), ("a",))], {}
        )


def test_a_series_is_measured_by_both_encoders(found_by_boxes):
    panel, _, galleries, shown, measured = found_by_boxes
    parts = measure_pictures(panel, [replace(shown, image=blot(seed)) for seed in (20, 21, 22)], galleries)
    values = measure_series(parts)
    rows = np.stack([part.vectors["clip"] for part in parts])
    assert values["consistency_all"] == pytest.approx(
        np.mean([rows[0] @ rows[1], rows[0] @ rows[2], rows[1] @ rows[2]])
    )
    assert set(values) == {"consistency_adjacent", "consistency_all", "scene_kept_adjacent", "scene_kept"}
    assert measure_series([measured, measured])["scene_kept"] == pytest.approx(1)
    with pytest.raises(InputError, match="two pictures"):
        measure_series(parts[:1])


@dataclass
class StillFace:
    embedding: np.ndarray


class FixedFaces:
    """Reads faces off a table instead of a picture: the first pixel says which."""

    name = source = "fixed faces"
    kind = "face"

    def __init__(self, table):
        self.table = table

    def find_faces(self, image):
        return [StillFace(row) for row in self.table[int(image[0, 0, 0])]]

    def embed_images(self, images):
        return np.stack([(self.table[int(image[0, 0, 0])] or [np.zeros(3, np.float32)])[0] for image in images])


def flat(number):
    return np.full((8, 8, 3), number, np.uint8)


def test_several_people_are_told_apart_by_greed_over_their_faces():
    axis = np.eye(3, dtype=np.float32)
    near = np.array([0.8, 0.6, 0.0], np.float32)
    faces = FixedFaces({0: [axis[0]], 1: [axis[1]], 2: [], 5: [axis[1], near], 6: [near], 7: []})
    panel = Panel(faces=faces)
    galleries = {
        "ann": build_gallery(panel, "ann", "woman", [flat(0), flat(2)]),
        "eve": build_gallery(panel, "eve", "woman", [flat(1)]),
        "rex": build_gallery(panel, "rex", "dog", [flat(2)]),
    }
    assert galleries["ann"].identity.shape == (1, 3) and galleries["rex"].identity is None
    wanted = Expectation(tuple(Expected("woman", concept=name) for name in ("ann", "eve", "rex")))
    two, one, none = measure_pictures(panel, [Shown(flat(n), None, wanted) for n in (5, 6, 7)], galleries)
    assert [part.get("identity_found") for part in two.instances] == [pytest.approx(0.8), pytest.approx(1.0), None]
    assert two.values["identity_least"] == pytest.approx(0.8)
    assert [part.get("identity") for part in one.instances] == [pytest.approx(0.8), 0.0, None]
    assert [part.get("identity") for part in none.instances] == [0.0, 0.0, None]
    assert panel.sources == {"identity": "fixed faces"}


@pytest.fixture(scope="module")
def judged():
    """A render of a dog, as the judge sees it against its own references and against another dog's."""
    panel = Panel(judge=load_judge())
    rng = stream_rng("heldout", 940, 0)
    views = {
        seed: [render(sample_scene(rng, [identity_from_seed("dog", seed)])).image for _ in range(6)] for seed in (3, 8)
    }
    galleries = {
        f"dog-{seed}": build_gallery(panel, f"dog-{seed}", "dog", images[:5]) for seed, images in views.items()
    }
    return panel, views, galleries


def test_the_judge_finds_the_right_dog_more_alike_than_another(judged):
    panel, views, galleries = judged
    shown = [Shown(views[3][5], None, Expectation((Expected("dog", concept=f"dog-{seed}"),))) for seed in (3, 8)]
    right, wrong = measure_pictures(panel, shown, galleries)
    assert right.score.instances[0].present is True
    assert right.instances[0]["identity_found"] > wrong.instances[0]["identity_found"]
    assert right.instances[0]["present"] == 1.0
    assert right.values["count"] == 1.0


def test_a_lineup_says_who_comes_first(judged):
    panel, views, galleries = judged
    own = centre_of(galleries["dog-3"].identity)
    others = np.eye(len(own), dtype=np.float32)[:19]
    shown = Shown(views[3][5], None, Expectation((Expected("dog", concept="dog-3"),)))
    for near, first in ((others[:10], 1.0), (np.stack([*others[:9], own]), 0.0)):
        gallery = replace(galleries["dog-3"], lineup=Lineup(own, near, others[10:]))
        found = measure_pictures(panel, [shown], {"dog-3": gallery})[0].instances[0]
        assert (found["first_of_20"], found["first_of_near"]) == (first, first)


def test_an_absent_class_is_absent_for_the_judge(judged):
    panel, views, galleries = judged
    shown = Shown(views[3][5], None, Expectation((Expected("car", concept="dog-3"),), place="city"))
    measured = measure_pictures(panel, [shown], galleries)[0]
    assert measured.found == (False,)
    assert measured.averaged["identity"] == 0.0 and measured.averaged["present"] == 0.0
    assert measured.values["place"] in (0.0, 1.0)


def test_only_those_of_one_class_are_mixed_up():
    axis = np.eye(3, dtype=np.float32)
    faces = FixedFaces({0: [axis[0]], 1: [axis[1]], 5: [np.array([0.1, 0.9, 0.0], np.float32)]})
    panel = Panel(faces=faces)
    galleries = {name: build_gallery(panel, name, "x", [flat(number)]) for number, name in enumerate(("ann", "eve"))}
    alike, apart = (
        measure_pictures(
            panel,
            [Shown(flat(5), None, Expectation((Expected("woman", concept="ann"), Expected(word, concept="eve"))))],
            galleries,
        )[0]
        for word in ("woman", "man")
    )
    assert [one["confused"] for one in alike.instances] == [None, 0.0]
    assert [one["confused"] for one in apart.instances] == [None, None]


def test_of_a_class_that_the_judge_does_not_know_it_says_nothing(judged):
    panel, views, _ = judged
    wanted = Expectation((Expected("dragon", concept="smaug"), Expected("dog")))
    measured = measure_pictures(panel, [Shown(views[3][5], None, wanted)], {})[0]
    assert measured.found == (None, True)
    assert (measured.score, measured.values.get("count")) == (None, None)
    assert "present" not in measured.instances[0]
    assert measured.instances[1]["present"] == 1.0
