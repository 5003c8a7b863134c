"""The names that numbers have in results; ``docs/metrics.md`` says what each of them is. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

Looker = Literal["clip", "dino", "identity", "judge", "pixels"]


class Measure(NamedTuple):
    """A number with a name.

    Attributes:
        title: in tables.
        of: what has it: a picture, an instance in it, a series of pictures, or a whole set of them.
        encoder: who looks: ``clip``, ``dino``, ``identity`` (a face encoder or the judge's), ``judge``, or nobody:
            ``pixels``.
        better: 1 where more is better, -1 where less is.
    """

    title: str
    of: Literal["picture", "instance", "series", "set"]
    encoder: Looker
    better: Literal[1, -1]


MEASURES: Mapping[str, Measure] = MappingProxyType(
    {
        "text": Measure("text alignment, cosine", "picture", "clip", 1),
        "text_scaled": Measure("text alignment, CLIPScore x2.5", "picture", "clip", 1),
        "text_instance": Measure("text alignment of instances", "instance", "clip", 1),
        "image": Measure("image alignment, whole picture", "picture", "clip", 1),
        "image_instance": Measure("image alignment of instances", "instance", "clip", 1),
        "dino": Measure("DINO, whole picture", "picture", "dino", 1),
        "dino_instance": Measure("DINO of instances", "instance", "dino", 1),
        "identity": Measure("identity alignment, 0 where absent", "instance", "identity", 1),
        "identity_found": Measure("identity alignment where found", "instance", "identity", 1),
        "identity_least": Measure("identity of the worst instance", "picture", "identity", 1),
        "confused": Measure("more like another concept", "instance", "identity", -1),
        "first_of_20": Measure("first of 20", "instance", "judge", 1),
        "first_of_near": Measure("first among look-alikes", "instance", "judge", 1),
        "present": Measure("present", "instance", "judge", 1),
        "attributes": Measure("attributes on the right one", "instance", "judge", 1),
        "attributes_swapped": Measure("attributes of another one", "instance", "judge", -1),
        "swapped": Measure("swapped in looks or attributes", "instance", "judge", -1),
        "subject_missing": Measure("subject missing", "instance", "judge", -1),
        "visual_confusion": Measure("visual confusion", "instance", "identity", -1),
        "attribute_misbinding": Measure("attribute binding: what it wears is wrong", "instance", "judge", -1),
        "action_misbinding": Measure("action binding: what it does is wrong", "instance", "judge", -1),
        "count": Measure("number of instances right", "picture", "judge", 1),
        "place": Measure("place right", "picture", "judge", 1),
        "light": Measure("light right", "picture", "judge", 1),
        "consistency_adjacent": Measure("consistency, neighbours", "series", "clip", 1),
        "consistency_all": Measure("consistency, all pairs", "series", "clip", 1),
        "scene_kept_adjacent": Measure("consistency by DINO, neighbours", "series", "dino", 1),
        "scene_kept": Measure("consistency by DINO, all pairs", "series", "dino", 1),
        "consistency_least": Measure("likeness of the least alike neighbours", "series", "clip", 1),
        "largest_step": Measure("largest step between neighbours, parts of the range", "series", "pixels", -1),
        "fid_clip": Measure("Frechet distance of CLIP features", "set", "clip", -1),
        "kid_clip": Measure("kernel distance of CLIP features", "set", "clip", -1),
        "fid_dino": Measure("Frechet distance of DINO features", "set", "dino", -1),
        "kid_dino": Measure("kernel distance of DINO features", "set", "dino", -1),
    }
)
