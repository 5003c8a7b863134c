"""Grounding DINO and SAM: random small ones, driven as transformers itself drives them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import GroundingDinoForObjectDetection, GroundingDinoProcessor, SamModel, SamProcessor

from d2plan.errors import FileError, InputError
from d2plan.isp.grounded import GroundedSam, measure_overlap, write_query
from d2plan.isp.masks import Region, find_masks
from d2plan.isp.segment import detect_regions
from tests.isp.tiny_detectors import write_dino, write_sam

IMAGE = np.random.default_rng(0).integers(0, 256, (48, 80, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("detectors")
    write_dino(root / "dino")
    write_sam(root / "sam")
    return root


@pytest.fixture(scope="module")
def detector(folder: Path) -> GroundedSam:
    return GroundedSam(folder / "dino", str(folder / "sam"))


def test_boxes_and_scores_are_those_of_transformers(folder: Path, detector: GroundedSam) -> None:
    network = GroundingDinoForObjectDetection.from_pretrained(folder / "dino").eval()
    processor = GroundingDinoProcessor.from_pretrained(folder / "dino")
    with torch.no_grad():
        result = network(**processor(images=IMAGE, text="man. dog.", return_tensors="pt"))
    (wanted,) = processor.post_process_grounded_object_detection(result, threshold=0.0, target_sizes=[(48, 80)])
    scores, boxes = detector._find(IMAGE, ["man", "dog"])
    # Oracle: the boxes clipped to the picture; a score is that of the word's one token in [CLS] man . dog . [SEP]
    limits = torch.tensor([80.0, 48.0, 80.0, 48.0])
    assert torch.allclose(boxes, torch.minimum(wanted["boxes"], limits).clamp(min=0), atol=1e-3)
    assert torch.allclose(scores, result.logits[0, :, [1, 3]].sigmoid(), atol=1e-6)


def test_a_class_of_two_words_has_the_mean_of_its_tokens(folder: Path, detector: GroundedSam) -> None:
    network = GroundingDinoForObjectDetection.from_pretrained(folder / "dino").eval()
    processor = GroundingDinoProcessor.from_pretrained(folder / "dino")
    with torch.no_grad():
        result = network(**processor(images=IMAGE, text="dog. teddy bear.", return_tensors="pt"))
    scores, _ = detector._find(IMAGE, ["dog", "Teddy Bear"])
    assert torch.allclose(scores[:, 1], result.logits[0, :, [3, 4]].sigmoid().mean(dim=1), atol=1e-6)


def test_masks_are_those_that_sam_draws_for_the_boxes(folder: Path, detector: GroundedSam) -> None:
    boxes = torch.tensor([[4.0, 4.0, 40.0, 40.0], [30.0, 10.0, 79.0, 47.0]])
    network, processor = SamModel.from_pretrained(folder / "sam").eval(), SamProcessor.from_pretrained(folder / "sam")
    given = processor(IMAGE, input_boxes=[boxes.tolist()], return_tensors="pt")
    with torch.no_grad():
        result = network(
            pixel_values=given["pixel_values"], input_boxes=given["input_boxes"].float(), multimask_output=False
        )
    (wanted,) = processor.post_process_masks(result.pred_masks, given["original_sizes"], given["reshaped_input_sizes"])
    masks = detector._draw(IMAGE, boxes)
    assert [mask.shape for mask in masks] == [(48, 80)] * 2
    assert all((mask == want[0].numpy()).all() for mask, want in zip(masks, wanted, strict=True))


def test_what_is_found_goes_into_masks(detector: GroundedSam) -> None:
    regions = [Region("man"), Region("man"), Region("dog", box=(0, 0, 0.2, 0.2))]
    found = detect_regions(detector, IMAGE, regions)
    assert found and {detection.class_word for detection in found} == {"man"}
    assert found == sorted(found, key=lambda detection: -detection.score)
    result = find_masks(None, regions, (12, 20), detections=found, missing="mark")
    assert result.partition.masks.shape == (4, 12, 20)
    assert any("Grounding DINO and SAM" in note for note in result.notes) == ("detect" in result.routes)


def test_a_box_found_twice_is_drawn_once(detector: GroundedSam) -> None:
    boxes = torch.tensor([[0.0, 0, 40, 40], [0, 0, 40, 41], [50, 0, 80, 40]])

    class Twice(GroundedSam):
        def __init__(self) -> None:
            self.__dict__.update(detector.__dict__)

        def _find(self, image: np.ndarray, class_words: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
            return torch.tensor([[0.5, 0.1], [0.9, 0.1], [0.3, 0.1]]), boxes

    found = Twice().detect(IMAGE, ["man", "dog"])
    assert [(item.class_word, round(item.score, 2)) for item in found] == [("man", 0.9), ("man", 0.3)]


def test_nothing_likely_is_nothing_found(detector: GroundedSam) -> None:
    class Unsure(GroundedSam):
        def __init__(self) -> None:
            self.__dict__.update(detector.__dict__)

        def _find(self, image: np.ndarray, class_words: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
            return torch.full((3, 1), 0.2), torch.zeros(3, 4)

    assert Unsure().detect(IMAGE, ["man"]) == []


def test_too_many_words_are_refused(detector: GroundedSam) -> None:
    with pytest.raises(InputError, match="too many class words.*32 tokens"):
        detector.detect(IMAGE, ["teddy bear"] * 12)


def test_a_query_says_where_each_word_stands() -> None:
    text, spans = write_query(["man", "Mr. Bear", "dog"])
    assert [text[first:last] for first, last in spans] == ["man", "mr bear", "dog"] and text == "man. mr bear. dog."


def test_boxes_overlap_by_their_shared_area() -> None:
    one = torch.tensor([0.0, 0.0, 2.0, 2.0])
    assert measure_overlap(one, one) == 1 and measure_overlap(one, one + 5) == 0
    assert measure_overlap(one, torch.tensor([1.0, 0.0, 3.0, 2.0])) == pytest.approx(1 / 3)
    assert measure_overlap(torch.zeros(4), torch.zeros(4)) == 0


def test_a_network_of_another_kind_or_none_at_all_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="sam is a sam, but a grounding-dino is needed"):
        GroundedSam(folder / "sam", folder / "sam")
    with pytest.raises(FileError, match=r"detector: SAM \(no-such-place\) is not on this machine.*DINO_FOLDER"):
        GroundedSam(folder / "dino", "no-such-place")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "grounding-dino"}))
    with pytest.raises(FileError, match="cannot be read"):
        GroundedSam(tmp_path, folder / "sam")
