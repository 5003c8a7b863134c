"""Faces: found by OpenCV's YuNet, described by SFace or by an ArcFace ONNX file (extra ``[face]``)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from d2plan.errors import FileError, InputError, MissingExtraError

Picture = NDArray[np.uint8]
Vectors = NDArray[np.float32]

# ArcFace's five points in a crop of 112 px: left eye, right eye, nose, left and right corner of the mouth, as seen.
# Source: insightface, face_align.py (arcface_dst).
STANDARD_POINTS = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]], np.float32
)
CROP = 112
_SURE, _OVERLAP, _MOST = 0.6, 0.3, 5000
_LARGEST = 1280


@dataclass(frozen=True, eq=False)
class Face:
    """A face in a picture.

    Attributes:
        box: x0, y0, x1, y1 in pixels; may reach over the edge.
        embedding: ``[d]`` float32 of length 1.
        points: ``[5, 2]`` pixels (x, y): eyes, nose, corners of the mouth, the picture's left one first.
        score: how sure the detector is, 0..1.
    """

    box: tuple[float, float, float, float]
    embedding: NDArray[np.float32]
    points: NDArray[np.float32]
    score: float


class FaceEncoder:
    """Finds faces, and describes them so that two pictures of one person have vectors close to each other."""

    kind = "face"

    def __init__(
        self, name: str, source: str, detector: FaceDetector, describe: Callable[[Picture, Vectors], Vectors], size: int
    ) -> None:
        """Join a detector and a network that describes.

        Args:
            name: what it was asked for by.
            source: its files with fingerprints.
            detector: finds boxes and points.
            describe: turns a picture and the five points ``[5, 2]`` of a face into ``[size]``.
            size: of an embedding.
        """
        self.name, self.source = name, source
        self._detector, self._describe, self._size = detector, describe, size

    def find_faces(self, image: Picture) -> list[Face]:
        """Find all faces of a picture.

        Args:
            image: ``[h, w, 3]`` uint8.

        Returns:
            The largest first; empty where there is none.

        Raises:
            InputError: the array is no picture.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise InputError(f"a picture is uint8 [h, w, 3], this is {image.dtype} {list(image.shape)}.")
        found = []
        for box, points, score in self._detector.detect(image):
            vector = self._describe(image, points).astype(np.float32).reshape(-1)
            if not np.isfinite(vector).all():
                raise FileError(f"encoder {self.name}: gives numbers that are not finite; download its files again.")
            found.append(Face(box, vector / max(float(np.linalg.norm(vector)), 1e-9), points, score))
        return sorted(found, key=lambda face: -(face.box[2] - face.box[0]) * (face.box[3] - face.box[1]))

    def embed_images(self, images: Sequence[Picture]) -> Vectors:
        """Embed the largest face of each picture, ``[n, d]``; a row of zeros where there is none, never left out."""
        rows = np.zeros((len(images), self._size), np.float32)
        for row, image in zip(rows, images, strict=True):
            faces = self.find_faces(image)
            if faces:
                row[:] = faces[0].embedding
        return rows


class _Entry(Protocol):
    """An input of an ONNX network, as onnxruntime describes it."""

    name: str
    shape: Sequence[int | str | None]


Found = tuple[tuple[float, float, float, float], Vectors, float]


class FaceDetector:
    """YuNet, from its ONNX file."""

    def __init__(self, path: Path) -> None:
        """Open it.

        Args:
            path: of the ONNX file.

        Raises:
            FileError: OpenCV cannot read it.
            MissingExtraError: OpenCV is not there.
        """
        cv2 = _need("cv2")
        self._resize = cv2.resize
        try:
            with _quiet(cv2):
                self._yunet = cv2.FaceDetectorYN.create(str(path), "", (320, 320), _SURE, _OVERLAP, _MOST)
        except cv2.error as error:
            raise FileError(f"{path}: OpenCV cannot open it as YuNet; download it again.") from error

    def detect(self, image: Picture) -> list[Found]:
        """Find boxes (x0, y0, x1, y1), five points ``[5, 2]`` and scores, in the picture's own pixels."""
        height, width = image.shape[:2]
        scale = min(1.0, _LARGEST / max(height, width))
        picture = np.ascontiguousarray(image[..., ::-1])  # OpenCV's order of colours
        if scale < 1:
            picture = self._resize(picture, (max(1, round(width * scale)), max(1, round(height * scale))))
        self._yunet.setInputSize((picture.shape[1], picture.shape[0]))
        _, rows = self._yunet.detect(picture)
        ratio = np.array([width / picture.shape[1], height / picture.shape[0]], np.float32)
        return [_read_row(row, ratio) for row in (rows if rows is not None else ())]


def _read_row(row: Vectors, ratio: Vectors) -> Found:
    """Read a row of YuNet: x, y, width, height, five points, score."""
    (x0, y0), (width, height) = row[:2] * ratio, row[2:4] * ratio
    box = (float(x0), float(y0), float(x0 + width), float(y0 + height))
    return box, (row[4:14].reshape(5, 2) * ratio).astype(np.float32), float(row[14])


def fit_similarity(points: Vectors, goal: Vectors) -> Vectors:
    """Find the turn, scale and shift that bring points to a goal with the least squared error.

    Source: Umeyama 1991, eq. (39)-(42).

    Args:
        points: ``[n, 2]``, not all at one place.
        goal: ``[n, 2]``.

    Returns:
        ``[2, 3]``, so that ``points @ m[:, :2].T + m[:, 2]`` is near the goal.
    """
    here, there = points.astype(np.float64), goal.astype(np.float64)
    own, other = here - here.mean(0), there - there.mean(0)
    left, strengths, right = np.linalg.svd(other.T @ own / len(here))
    signs = np.array([1.0, 1.0 if np.linalg.det(left @ right) >= 0 else -1.0])
    turn = left @ np.diag(signs) @ right
    scale = float((strengths * signs).sum() / max(own.var(0).sum(), 1e-12))
    shift = there.mean(0) - scale * turn @ here.mean(0)
    return np.concatenate([scale * turn, shift[:, None]], axis=1).astype(np.float32)


def align_face(image: Picture, points: Vectors) -> Picture:
    """Cut a face out so that its five points lie where ArcFace's networks expect them.

    Args:
        image: ``[h, w, 3]`` uint8.
        points: ``[5, 2]`` pixels (x, y).

    Returns:
        ``[112, 112, 3]`` uint8; black beyond the picture's edge.

    Raises:
        MissingExtraError: OpenCV is not there.
    """
    cv2 = _need("cv2")
    cut: Picture = cv2.warpAffine(image, fit_similarity(points, STANDARD_POINTS), (CROP, CROP), borderValue=0)
    return cut


def open_sface(name: str, folder: Path) -> FaceEncoder:
    """Open YuNet and SFace.

    Args:
        name: what it was asked for by.
        folder: holds both files as OpenCV's model zoo names them (``*yunet*.onnx``, ``*sface*.onnx``).

    Returns:
        The encoder, 128 numbers a face.

    Raises:
        FileError: a file is missing or damaged.
        MissingExtraError: OpenCV is not there.
    """
    cv2 = _need("cv2")
    yunet, sface = find_file(folder, "yunet"), find_file(folder, "sface")
    try:
        with _quiet(cv2):
            network = cv2.FaceRecognizerSF.create(str(sface), "")
    except cv2.error as error:
        raise FileError(f"{sface}: OpenCV cannot open it as SFace; download it again.") from error

    def describe(image: Picture, points: Vectors) -> Vectors:
        # SFace's alignment reads the points alone; what a detector says beside them does not matter.
        row = np.concatenate([np.zeros(4), points.reshape(-1), np.ones(1)]).astype(np.float32)
        vector: Vectors = network.feature(network.alignCrop(np.ascontiguousarray(image[..., ::-1]), row))
        return vector

    size = int(describe(np.zeros((CROP, CROP, 3), np.uint8), STANDARD_POINTS).size)
    return FaceEncoder(name, f"{_mark(sface)}, {_mark(yunet)}", FaceDetector(yunet), describe, size)


def open_arcface(name: str, path: Path) -> FaceEncoder:
    """Open YuNet and an ArcFace network.

    Args:
        name: what it was asked for by.
        path: of the network's ONNX file, such as AuraFace's ``glintr100.onnx``; YuNet's file lies beside it.

    Returns:
        The encoder.

    Raises:
        FileError: a file is missing or damaged, or is no network of 112 px crops.
        MissingExtraError: onnxruntime or OpenCV is not there.
    """
    runtime = _need("onnxruntime")
    if not path.is_file():
        raise FileError(f"encoder {name}: {path} is not a file; name an ArcFace network in ONNX format.")
    yunet = find_file(path.parent, "yunet")
    try:
        session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no common type below Exception
        raise FileError(f"{path}: onnxruntime cannot open it; download it again.") from error
    entry = _check_entry(session.get_inputs(), path)

    def describe(image: Picture, points: Vectors) -> Vectors:
        vector: Vectors = session.run(None, {entry: to_arcface(align_face(image, points))})[0]
        return vector

    size = int(describe(np.zeros((CROP, CROP, 3), np.uint8), STANDARD_POINTS).size)
    return FaceEncoder(name, f"{_mark(path)}, {_mark(yunet)}", FaceDetector(yunet), describe, size)


def to_arcface(crop: Picture) -> Vectors:
    """Bring an aligned crop ``[112, 112, 3]`` to what ArcFace's networks read, ``[1, 3, 112, 112]`` -1..1, red first.

    Source: insightface, arcface_onnx.py: mean and std of 127.5, as all of its networks that came from PyTorch have.
    """
    return ((crop.astype(np.float32) - 127.5) / 127.5).transpose(2, 0, 1)[None]


def find_file(folder: Path, word: str) -> Path:
    """Find the ONNX file whose name holds a word.

    Args:
        folder: where to look.
        word: lower case.

    Returns:
        Its path.

    Raises:
        FileError: there is none, or several.
    """
    found = sorted(path for path in folder.glob("*.onnx") if word in path.name.lower())
    if len(found) != 1:
        many = f"{len(found)} files named like *{word}*.onnx" if found else f"no *{word}*.onnx"
        raise FileError(f"{folder}: has {many}; put exactly one there, from OpenCV's model zoo.")
    return found[0]


@contextmanager
def _quiet(cv2: ModuleType) -> Iterator[None]:
    """Keep OpenCV from writing its remarks on backends to the terminal; errors still come as exceptions."""
    before = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(0)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(before)


def _check_entry(inputs: Sequence[_Entry], path: Path) -> str:
    if len(inputs) != 1 or list(inputs[0].shape[1:]) != [3, CROP, CROP]:
        raise FileError(f"{path}: is no ArcFace network (its input is not [n, 3, {CROP}, {CROP}]); name another file.")
    return str(inputs[0].name)


def _mark(path: Path) -> str:
    return f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()[:12]}"


def _need(module: str) -> ModuleType:
    """Import an optional package."""
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingExtraError("faces: OpenCV and onnxruntime are needed; pip install 'd2plan[face]'") from error
