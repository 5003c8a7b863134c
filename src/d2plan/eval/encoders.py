"""Encoders that turn pictures, and for CLIP texts, into vectors which metrics compare; each tells where it came from.

Names: ``mini-clip`` and ``mini-vit`` are the embedded ones, ``judge`` is the judge's identity encoder; ``clip:X`` and
``dino:X`` open X, a folder or a downloaded model of the hub, through transformers; ``face:sface:FOLDER`` and
``face:arcface:FILE`` open ONNX files (extra ``[face]``).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional
from transformers import (
    AutoImageProcessor,
    AutoModel,
    AutoTokenizer,
    BaseImageProcessor,
    CLIPModel,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from d2plan.errors import FileError, InputError
from d2plan.eval.faces import FaceEncoder, open_arcface, open_sface
from d2plan.eval.folders import find_folder, fingerprint, opening, read_type
from d2plan.eval.judge import Judge, load_judge

Picture = NDArray[np.uint8]
Vectors = NDArray[np.float32]

MINI_CLIP, MINI_VIT, JUDGE = "mini-clip", "mini-vit", "judge"
NAMES = (MINI_CLIP, MINI_VIT, JUDGE, "clip:PATH_OR_ID", "dino:PATH_OR_ID", "face:sface:FOLDER", "face:arcface:FILE")
_EMBEDDED = {MINI_CLIP: "clip", MINI_VIT: "vit"}
_DINO_TYPES = ("vit", "dinov2", "dinov2_with_registers")
_BATCH = 32


@runtime_checkable
class ImageEncoder(Protocol):
    """Turns pictures into vectors.

    Attributes:
        name: what ``open_encoder`` was asked for.
        kind: ``clip``, ``dino``, ``face`` or ``judge``.
        source: the folder or hub id with a fingerprint of its weights; stands beside every number that it made.
    """

    @property
    def name(self) -> str:
        """What ``open_encoder`` was asked for."""
        ...

    @property
    def kind(self) -> str:
        """``clip``, ``dino``, ``face`` or ``judge``."""
        ...

    @property
    def source(self) -> str:
        """Where it came from, with a fingerprint of its weights."""
        ...

    def embed_images(self, images: Sequence[Picture]) -> Vectors:
        """Embed pictures.

        Args:
            images: each ``[h, w, 3]`` uint8, of any size.

        Returns:
            ``[n, d]`` float32, rows of length 1. A row of zeros where ``face`` or ``judge`` find nothing, so that its
            cosine with anything is 0 and ``~rows.any(1)`` counts such pictures.

        Raises:
            InputError: an array is no picture.
        """
        ...


@runtime_checkable
class TextEncoder(ImageEncoder, Protocol):
    """An image encoder that can read: CLIP."""

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        """Embed texts; those longer than the model reads are cut, as its tokenizer does.

        Args:
            texts: any.

        Returns:
            ``[n, d]`` float32, rows of length 1, comparable with those of pictures.
        """
        ...


class _Transformer:
    """What all encoders of transformers share: a model, its own processor, and batches."""

    kind = ""

    def __init__(self, name: str, source: str, model: PreTrainedModel, processor: BaseImageProcessor) -> None:
        self.name, self.source = name, source
        self._model, self._processor = model, processor

    def prepare(self, images: Sequence[Picture]) -> Tensor:
        """Bring pictures to what the model reads, by the processor that belongs to it, ``[n, 3, h, w]``."""
        check_pictures(images)
        pictures = [Image.fromarray(image) for image in images]
        return self._processor(pictures, return_tensors="pt")["pixel_values"]

    def _features(self, pixels: Tensor) -> Tensor:
        raise AssertionError("each kind has its own")

    @torch.no_grad()
    def embed_images(self, images: Sequence[Picture]) -> Vectors:
        """Embed pictures, ``[n, d]``."""
        rows = [np.zeros((0, self._size()), np.float32)]
        for start in range(0, len(images), _BATCH):
            pixels = self.prepare(images[start : start + _BATCH]).to(self._model.device, self._model.dtype)
            rows.append(to_rows(self._features(pixels)))
        return np.concatenate(rows)

    def _size(self) -> int:
        return int(self._model.config.hidden_size)


class ClipEncoder(_Transformer):
    """CLIP: pictures and texts in one space."""

    kind = "clip"

    def __init__(
        self,
        name: str,
        source: str,
        model: CLIPModel,
        processor: BaseImageProcessor,
        tokenizer: PreTrainedTokenizerBase,
    ) -> None:
        """Wrap an opened model.

        Args:
            name: what it was asked for by.
            source: where it came from.
            model: with both towers, in evaluation mode.
            processor: of its pictures.
            tokenizer: of its texts.
        """
        super().__init__(name, source, model, processor)
        self._tokenizer = tokenizer

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        """Embed texts, ``[n, d]``."""
        rows = [np.zeros((0, self._size()), np.float32)]
        most = int(self._model.config.text_config.max_position_embeddings)
        for start in range(0, len(texts), _BATCH):
            part = list(texts[start : start + _BATCH])
            words = self._tokenizer(part, padding=True, truncation=True, max_length=most, return_tensors="pt")
            words = {key: words[key].to(self._model.device) for key in ("input_ids", "attention_mask")}
            rows.append(to_rows(self._model.get_text_features(**words).pooler_output))
        return np.concatenate(rows)

    def _features(self, pixels: Tensor) -> Tensor:
        return self._model.get_image_features(pixel_values=pixels).pooler_output

    def _size(self) -> int:
        return int(self._model.config.projection_dim)


class DinoEncoder(_Transformer):
    """A self-supervised vision transformer; its first token after the last norm describes the picture.

    Source: DINO (Caron et al. 2021), DINOv2 (Oquab et al. 2023); Custom Diffusion's evaluation uses the same token.
    """

    kind = "dino"

    def _features(self, pixels: Tensor) -> Tensor:
        return self._model(pixel_values=pixels).last_hidden_state[:, 0]


class JudgeEncoder:
    """The judge's identity encoder: the largest instance that it finds in a picture."""

    name, kind = JUDGE, "judge"

    def __init__(self, judge: Judge, source: str) -> None:
        """Wrap a judge.

        Args:
            judge: who looks.
            source: where its weights came from.
        """
        self._judge, self.source = judge, source

    def embed_images(self, images: Sequence[Picture]) -> Vectors:
        """Embed the largest instance of each picture, ``[n, 64]``; a row of zeros where there is none."""
        size = int(self._judge.networks.identity.config.num_labels)
        rows = np.zeros((len(images), size), np.float32)
        for row, verdict in zip(rows, self._judge.judge_many(images), strict=True):
            if verdict.instances:
                row[:] = max(verdict.instances, key=lambda seen: int(seen.mask.sum())).embedding
        return rows


def open_encoder(name: str, device: str = "cpu") -> ImageEncoder:
    """Open an encoder by its name; nothing is downloaded.

    Args:
        name: one of ``NAMES``.
        device: where it runs; faces and what ONNX runs stay on the CPU.

    Returns:
        The encoder.

    Raises:
        InputError: no encoder has such a name, or what it names is of another kind.
        FileError: a file is missing or damaged.
        MissingExtraError: it needs an extra that is not installed.
    """
    if name == JUDGE:
        folder = _assets() / "judge"
        return JudgeEncoder(load_judge(folder, device), f"judge {fingerprint(folder)}")
    if name in _EMBEDDED:
        folder = _assets() / "encoders" / _EMBEDDED[name]
        opened = _open_clip(name, folder, device) if name == MINI_CLIP else _open_dino(name, folder, device)
        opened.source = f"{name} {fingerprint(folder)}"
        return opened
    kind, _, rest = name.partition(":")
    if kind in ("clip", "dino") and rest:
        folder = find_folder(rest, name)
        opened = _open_clip(name, folder, device) if kind == "clip" else _open_dino(name, folder, device)
        opened.source = f"{rest} {fingerprint(folder)}"
        return opened
    return open_faces(name)


def open_faces(name: str) -> FaceEncoder:
    """Open a face encoder by its name.

    Args:
        name: ``face:sface:FOLDER`` or ``face:arcface:FILE``.

    Returns:
        The encoder.

    Raises:
        InputError: no face encoder has such a name.
        FileError: a file is missing or damaged.
        MissingExtraError: the extra ``[face]`` is not installed.
    """
    match = re.fullmatch(r"face:(sface|arcface):(.+)", name)
    if not match:
        raise InputError(f"encoder: there is no '{name}'; choose from {', '.join(NAMES)}.")
    return (open_sface if match[1] == "sface" else open_arcface)(name, Path(match[2]).expanduser())


def open_clip(name: str) -> TextEncoder:
    """Open an encoder that must also read texts.

    Args:
        name: ``mini-clip`` or ``clip:PATH_OR_ID``.

    Returns:
        The encoder.

    Raises:
        InputError: it is of another kind.
        FileError: a file is missing or damaged.
    """
    encoder = open_encoder(name)
    if not isinstance(encoder, ClipEncoder):
        raise InputError(f"encoder: '{name}' cannot read texts; choose {MINI_CLIP} or clip:PATH_OR_ID.")
    return encoder


def check_pictures(images: Sequence[Picture]) -> None:
    """Make sure that all arrays are pictures.

    Args:
        images: should be ``[h, w, 3]`` uint8 each.

    Raises:
        InputError: one is not ``[h, w, 3]`` uint8, or has no pixel.
    """
    for number, image in enumerate(images):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise InputError(f"picture {number}: is {image.dtype} {list(image.shape)}; give uint8 [h, w, 3].")


def to_rows(features: Tensor) -> Vectors:
    """Bring features ``[n, d]`` to length 1 as float32 in numpy."""
    return functional.normalize(features.float(), dim=-1).cpu().numpy().astype(np.float32)


def _assets() -> Path:
    return Path(str(files("d2plan"))) / "assets"


def _open_clip(name: str, folder: Path, device: str) -> ClipEncoder:
    _check_type(name, folder, ("clip",))
    model = _open_model(name, folder, CLIPModel)
    with opening(name, folder):
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    return ClipEncoder(name, str(folder), model.to(device).eval(), _open_processor(name, folder), tokenizer)


def _open_dino(name: str, folder: Path, device: str) -> DinoEncoder:
    _check_type(name, folder, _DINO_TYPES)
    model = _open_model(name, folder, AutoModel, **_no_pooler(folder))
    return DinoEncoder(name, str(folder), model.to(device).eval(), _open_processor(name, folder))


def _open_model(name: str, folder: Path, kind: type[CLIPModel] | type[AutoModel], **settings: bool) -> PreTrainedModel:
    """Open a model whose weights are all there; transformers itself would only draw the missing ones at random."""
    with opening(name, folder):
        model, found = kind.from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
            **settings,
        )
    if found["missing_keys"]:
        count, one = len(found["missing_keys"]), min(found["missing_keys"])
        raise FileError(f"encoder {name}: {folder} lacks {count} weights of its model, such as {one}; get it whole.")
    return model


def _no_pooler(folder: Path) -> dict[str, bool]:
    """Leave out ViT's pooling layer, which DINO's weights do not have and nothing here reads."""
    return {"add_pooling_layer": False} if read_type(folder) == "vit" else {}


def _open_processor(name: str, folder: Path) -> BaseImageProcessor:
    """Open the picture processor that belongs to a model, in the variant that computes with Pillow everywhere.

    With torchvision there the other variant would be taken, whose resizing differs a little: one machine's numbers
    would not be another's.
    """
    if not (folder / "preprocessor_config.json").is_file():
        raise FileError(f"encoder {name}: {folder}/preprocessor_config.json is missing; copy it from the model's page.")
    with opening(name, folder):
        return AutoImageProcessor.from_pretrained(folder, local_files_only=True, trust_remote_code=False, backend="pil")


def _check_type(name: str, folder: Path, wanted: tuple[str, ...]) -> None:
    found = read_type(folder)
    if found not in wanted:
        raise InputError(
            f"encoder {name}: {folder} holds a model of type '{found}'; this name needs {' or '.join(wanted)}."
        )
