"""The document that says how a picture came out; read it as a part of ``d2plan.documents``. No torch here."""

from pydantic import BaseModel, ConfigDict, Field


class InstanceScore(BaseModel):
    """How one expected instance of a picture came out; None where nothing was asked for or nothing is known.

    Attributes:
        class_word: its class.
        concept: the name of the concept that it shall be.
        present: an instance of the class is there.
        accessory: it wears what the prompt says.
        accessory_colour: in the colour that the prompt says.
        action: it does what the prompt says.
        attributes: all that the prompt says of it is right.
        swapped: it shows what the prompt says of another instance instead.
        attribute_misbinding: what the prompt says that it wears is not seen on it.
        action_misbinding: what the prompt says that it does is not seen on it.
        visual_confusion: more than a third of its looks is another concept's of the picture.
        similarity: cosine to the concept's own pictures, -1..1.
        rank: of the concept among itself and 19 others of its class, 1..20; 20 when it is absent.
        rank_near: among itself and the 10 that look much like it, 1..11.
        rank_far: among itself and the 9 others, 1..10.
        seen: what is seen on it: accessory, accessory_colour, action.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    class_word: str
    concept: str | None = None
    present: bool
    accessory: bool | None = None
    accessory_colour: bool | None = None
    action: bool | None = None
    attributes: bool | None = None
    swapped: bool | None = None
    attribute_misbinding: bool | None = None
    action_misbinding: bool | None = None
    visual_confusion: bool | None = None
    similarity: float | None = None
    rank: int | None = None
    rank_near: int | None = None
    rank_far: int | None = None
    seen: dict[str, str | None] = Field(default_factory=dict)


class Score(BaseModel):
    """How a picture came out against what it was asked to show.

    Attributes:
        picture: what it is called, such as its run's folder.
        place: the place is right; None when the prompt says none.
        light: the light is right; None when the prompt says none.
        expected_count: instances that were asked for.
        seen_count: instances that are seen.
        seen_place: the place that is seen.
        seen_light: the light that is seen.
        instances: in the order of the expectation.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    picture: str = ""
    place: bool | None = None
    light: bool | None = None
    expected_count: int
    seen_count: int
    seen_place: str
    seen_light: str
    instances: tuple[InstanceScore, ...] = ()
