"""Faces: found, brought to the five standard points, described, and counted where there is none."""

import sys
from pathlib import Path

import numpy as np
import pytest

from d2plan.errors import FileError, InputError, MissingExtraError
from d2plan.eval.encoders import ImageEncoder, open_encoder
from d2plan.eval.faces import STANDARD_POINTS, align_face, fit_similarity, to_arcface
from d2plan.eval.likeness import FaceIdentityEncoder, Place, describe_references, measure_likeness
from d2plan.eval.measure import Shown, measure_pictures
from d2plan.eval.panel import Panel, build_gallery
from d2plan.eval.score import Expectation, Expected
from d2plan.workflows.composing import choose
from d2plan.workflows.scoring.folders import ScoredSet, _note_sets
from d2plan.workflows.scoring.items import Item
from tests.eval.onnx_files import face_network, yunet_network

cv2 = pytest.importorskip("cv2")
onnxruntime = pytest.importorskip("onnxruntime")

SHIFTS = np.array([[0.3, 0.3], [0.7, 0.3], [0.5, 0.5], [0.35, 0.7], [0.65, 0.7]], np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Networks whose answers are known: a face is where a cell of 32 px is bright."""
    folder = tmp_path_factory.mktemp("faces")
    (folder / "face_detection_yunet_2023mar.onnx").write_bytes(yunet_network())
    (folder / "face_recognition_sface_2021dec.onnx").write_bytes(face_network())
    (folder / "arcface.onnx").write_bytes(face_network(12, 1))
    return folder


def picture(*cells, size=(96, 160)):
    """A dark picture with bright cells (row, column, brightness) of 32 px; each has some texture."""
    image = np.zeros((*size, 3), np.uint8)
    for row, column, light in cells:
        texture = np.random.default_rng(row * 7 + column).integers(light - 20, light, (32, 32, 3))
        image[row * 32 : row * 32 + 32, column * 32 : column * 32 + 32] = texture
    return image


def turn(points, angle, scale, shift):
    matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return (scale * points @ matrix.T + shift).astype(np.float32)


@pytest.mark.parametrize("name", ["face:sface:{}", "face:arcface:{}/arcface.onnx"])
def test_faces_are_found_where_they_are(folder, name):
    encoder = open_encoder(name.format(folder))
    faces = encoder.find_faces(picture((1, 2, 255), (2, 4, 255)))
    assert {tuple(round(side) for side in face.box) for face in faces} == {(64, 32, 96, 64), (128, 64, 160, 96)}
    face = next(face for face in faces if round(face.box[0]) == 64)
    assert np.allclose(face.points, SHIFTS * 32 + [64, 32], atol=1e-3)
    assert face.score > 0.9 and np.linalg.norm(face.embedding) == pytest.approx(1, abs=1e-5)


def test_a_picture_without_a_face_is_a_row_of_zeros(folder):
    encoder = open_encoder(f"face:sface:{folder}")
    rows = encoder.embed_images([picture(), picture((0, 0, 255)), picture()])
    assert rows.shape == (3, 16) and rows.dtype == np.float32
    assert (~rows.any(1)).tolist() == [True, False, True]
    assert np.array_equal(rows[1], encoder.find_faces(picture((0, 0, 255)))[0].embedding)
    assert isinstance(encoder, ImageEncoder) and encoder.kind == "face"


def test_references_without_a_face_are_counted(folder):
    panel = Panel(faces=open_encoder(f"face:sface:{folder}"))
    bright = picture((0, 0, 255))
    some = build_gallery(panel, "ann", "woman", [bright, picture(), bright])
    assert len(some.identity) == 2 and some.notes == ("ann: no face is found in 1 of 3 references",)
    none = build_gallery(panel, "tom", "man", [picture()])
    assert none.notes == ("tom: no face is found in 1 of 1 references, so its identity is not measured",)
    assert build_gallery(panel, "ann", "woman", [bright]).notes == ()


def test_pictures_without_a_face_are_counted(folder):
    panel = Panel(faces=open_encoder(f"face:sface:{folder}"))
    galleries = {"ann": build_gallery(panel, "ann", "woman", [picture((0, 0, 255))])}
    wanted = Expectation((Expected("woman", concept="ann"),))
    items = [Item(f"{number}", Path("x"), "a woman", wanted, ("a woman",), "a woman") for number in range(2)]
    shown = [Shown(one, "a woman", wanted, ("a woman",)) for one in (picture((0, 0, 255)), picture())]
    scored = ScoredSet("own", tuple(items), tuple(measure_pictures(panel, shown, galleries)))
    assert _note_sets([scored], galleries) == (
        "own: no face of ann is found in 1 of 2 pictures; they count as 0 in identity",
    )


def test_of_several_people_each_is_compared_by_the_face_in_its_mask(folder):
    encoder = choose.open_encoder(f"face:sface:{folder}", "some-sdxl")
    assert isinstance(encoder, FaceIdentityEncoder) and encoder.name == f"face:sface:{folder}"
    image = picture((0, 0, 255), (2, 4, 255))
    left = np.zeros(image.shape[:2], np.float32)
    left[:, :80] = 1
    two = [Place("man", left), Place("woman", 1 - left)]
    faces = {face.box[0] < 80: face.embedding for face in open_encoder(f"face:sface:{folder}").find_faces(image)}
    found = encoder.describe(image, two)
    assert np.array_equal(found[0], faces[True]) and np.array_equal(found[1], faces[False])
    # Whose face it is, is said by the pictures; who shows none is not found.
    own = [describe_references(encoder, "man", [picture((0, 0, 255))]), describe_references(encoder, "woman", [image])]
    likeness = measure_likeness(encoder, picture((0, 0, 255)), two, own)
    assert likeness[0] == pytest.approx(1, abs=1e-4) and likeness[1] is None
    with pytest.raises(InputError, match="finds no dog in any of these pictures"):
        describe_references(encoder, "dog", [picture()])


def test_a_large_picture_gives_boxes_in_its_own_pixels(folder):
    encoder = open_encoder(f"face:sface:{folder}")
    image = np.repeat(np.repeat(picture((1, 2, 255), size=(64, 1280)), 2, 0), 2, 1)
    (face,) = encoder.find_faces(image)
    assert np.allclose(face.box, np.array([64, 32, 96, 64]) * 2, atol=1)


def test_the_similarity_is_found_exactly_where_there_is_one():
    points = turn(STANDARD_POINTS, 0.4, 1.7, [30, -12])
    matrix = fit_similarity(points, STANDARD_POINTS)
    assert np.allclose(points @ matrix[:, :2].T + matrix[:, 2], STANDARD_POINTS, atol=1e-3)
    assert np.sqrt(np.linalg.det(matrix[:, :2].astype(float))) == pytest.approx(1 / 1.7, rel=1e-4)


def test_a_mirrored_face_is_turned_and_never_mirrored_back():
    matrix = fit_similarity(STANDARD_POINTS * [-1, 1], STANDARD_POINTS)
    assert np.linalg.det(matrix[:, :2].astype(float)) > 0


def test_no_other_similarity_comes_nearer():
    rng = np.random.default_rng(0)
    points = STANDARD_POINTS + rng.normal(0, 6, (5, 2)).astype(np.float32)
    matrix = fit_similarity(points, STANDARD_POINTS)

    def error(one):
        return np.square(points @ one[:, :2].T + one[:, 2] - STANDARD_POINTS).sum()

    # A similarity has four numbers, in which the error is quadratic: least squares in those is an independent answer.
    rows = np.zeros((10, 4))
    rows[0::2] = np.stack([points[:, 0], -points[:, 1], np.ones(5), np.zeros(5)], 1)
    rows[1::2] = np.stack([points[:, 1], points[:, 0], np.zeros(5), np.ones(5)], 1)
    a, b, x, y = np.linalg.lstsq(rows, STANDARD_POINTS.reshape(-1), rcond=None)[0]
    assert np.allclose(matrix, [[a, -b, x], [b, a, y]], atol=1e-3)
    assert error(matrix) <= error(matrix + rng.normal(0, 0.01, (2, 3)))


def test_a_cut_out_face_is_the_one_that_opencvs_sface_cuts(folder):
    image = cv2.GaussianBlur(np.random.default_rng(1).integers(0, 256, (240, 300, 3), dtype=np.uint8), (0, 0), 4)
    points = turn(STANDARD_POINTS, -0.3, 1.3, [60, 40])
    row = np.concatenate([np.zeros(4), points.reshape(-1), np.ones(1)]).astype(np.float32)
    sface = cv2.FaceRecognizerSF.create(str(folder / "face_recognition_sface_2021dec.onnx"), "")
    wanted = sface.alignCrop(image, row)
    given = align_face(image, points)
    assert given.shape == (112, 112, 3)
    assert np.abs(given.astype(int) - wanted).max() <= 2


def test_arcface_gets_red_first_from_minus_one_to_one():
    crop = np.zeros((112, 112, 3), np.uint8)
    crop[..., 0] = 255
    pixels = to_arcface(crop)
    assert pixels.shape == (1, 3, 112, 112) and pixels.dtype == np.float32
    assert pixels[0, 0].min() == 1.0 and pixels[0, 1:].max() == -1.0


def test_an_arcface_row_is_the_networks_own_output(folder):
    image = picture((1, 2, 255))
    encoder = open_encoder(f"face:arcface:{folder}/arcface.onnx")
    (face,) = encoder.find_faces(image)
    session = onnxruntime.InferenceSession(str(folder / "arcface.onnx"), providers=["CPUExecutionProvider"])
    wanted = session.run(None, {"data": to_arcface(align_face(image, face.points))})[0][0]
    assert np.allclose(face.embedding, wanted / np.linalg.norm(wanted), atol=1e-5)


def test_a_face_turned_with_the_picture_keeps_its_description(folder):
    encoder = open_encoder(f"face:arcface:{folder}/arcface.onnx")
    soft = cv2.GaussianBlur(np.random.default_rng(2).integers(0, 256, (400, 400, 3), dtype=np.uint8), (0, 0), 9)
    points = STANDARD_POINTS * 1.5 + 90
    matrix = np.array([[0.8, -0.6, 80.0], [0.6, 0.8, -60.0]])
    turned = cv2.warpAffine(soft, matrix, (400, 400))
    one = align_face(soft, points)
    two = align_face(turned, (points @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32))
    assert np.abs(one.astype(int) - two).mean() < 1.5
    rows = [
        encoder._describe(soft, points),
        encoder._describe(turned, turn(points, np.arctan2(0.6, 0.8), 1, [80, -60])),
    ]
    unit = [row.reshape(-1) / np.linalg.norm(row) for row in rows]
    assert float(unit[0] @ unit[1]) > 0.95


def test_a_source_names_both_files(folder):
    source = open_encoder(f"face:arcface:{folder}/arcface.onnx").source
    assert source.startswith("arcface.onnx ") and "face_detection_yunet_2023mar.onnx " in source


def test_without_the_extra_the_command_that_installs_it_is_named(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'd2plan\[face\]'"):
        open_encoder(f"face:sface:{folder}")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'd2plan\[face\]'"):
        open_encoder(f"face:arcface:{folder}/arcface.onnx")


def test_missing_and_damaged_files_are_named(folder, tmp_path):
    with pytest.raises(FileError, match=r"no \*yunet\*\.onnx"):
        open_encoder(f"face:sface:{tmp_path}")
    with pytest.raises(FileError, match="is not a file"):
        open_encoder(f"face:arcface:{tmp_path}/nothing.onnx")
    (tmp_path / "yunet.onnx").write_bytes(yunet_network())
    (tmp_path / "bad.onnx").write_bytes(b"nothing of this kind")
    with pytest.raises(FileError, match="onnxruntime cannot open it"):
        open_encoder(f"face:arcface:{tmp_path}/bad.onnx")
    (tmp_path / "small.onnx").write_bytes(face_network(side=96))
    with pytest.raises(FileError, match="is no ArcFace network"):
        open_encoder(f"face:arcface:{tmp_path}/small.onnx")
    (tmp_path / "sface.onnx").write_bytes(b"nothing of this kind")
    with pytest.raises(FileError, match="cannot open it as SFace"):
        open_encoder(f"face:sface:{tmp_path}")
    (tmp_path / "yunet2.onnx").write_bytes(yunet_network())
    with pytest.raises(FileError, match="2 files named like"):
        open_encoder(f"face:sface:{tmp_path}")


def test_an_array_that_is_no_picture_is_refused(folder):
    with pytest.raises(InputError, match="uint8"):
        open_encoder(f"face:sface:{folder}").find_faces(np.zeros((40, 40)))


def test_another_kind_of_face_encoder_is_refused():
    with pytest.raises(InputError, match="there is no 'face:other:x'"):
        open_encoder("face:other:x")
