import numpy as np

from d2plan.bench.shared.figures import find_detector
from d2plan.isp.masks import Region
from d2plan.isp.segment import detect_regions
from d2plan.world.cast import sample_identity
from d2plan.world.scene import sample_scene
from d2plan.world.truth import render


def test_the_embedded_bases_figures_are_found_by_the_judges_segmenter(tiny):
    rng = np.random.default_rng(5)
    scene = sample_scene(rng, [sample_identity(word, rng) for word in ("man", "dog")])
    truth = render(scene, 128)
    words = [figure.identity.class_word for figure in scene.figures]

    detector = find_detector(tiny.__class__(**{**vars(tiny), "name": "mini"}))
    found = detect_regions(detector, truth.image, [Region(word) for word in words])

    assert {one.class_word for one in found} == {"man", "dog"}
    assert all("not independent" in one.source for one in found)


def test_no_detector_is_known_for_other_bases(tiny):
    assert find_detector(tiny) is None
