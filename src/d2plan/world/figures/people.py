"""People: man, woman, boy and girl, told apart by proportions, clothes and hair whatever the identity."""

from __future__ import annotations

from dataclasses import dataclass

from d2plan.world.figures.parts import PATTERNS, Drawn, draw_pattern
from d2plan.world.figures.people_body import BODIES, POSES, Body, Joints, Pose, draw_limb, place_joints
from d2plan.world.figures.people_hair import (
    BEARDS,
    BOY_HAIR,
    GIRL_HAIR,
    MAN_HAIR,
    WOMAN_HAIR,
    draw_back_hair,
    draw_beard,
    draw_brows,
    draw_face,
    draw_front_hair,
    draw_head,
    hair_shade,
    set_apart,
)
from d2plan.world.identity import Factor, Identity
from d2plan.world.pen import RGB, Pen, Point, shade

_TOPS = ("tshirt", "sweater", "vest", "raglan")
_OUTFITS = ("dress", "gown", "skirt", "coat")
_FROCKS = ("dress", "pinafore", "tutu")
_TWO_PIECE = ("skirt", "tutu")  # top and skirt differ in colour

_SHARED = (
    Factor("skin", "skin", weight=1.0),
    Factor("hair_colour", "range", weight=1.5),
    Factor("pattern", "choice", PATTERNS, weight=1.0),
    Factor("pattern_colour", "colour", weight=0.8),
    Factor("shoe_colour", "colour", weight=0.5),
    Factor("build", "range", weight=0.5),
)
FACTORS: dict[str, tuple[Factor, ...]] = {
    "man": (
        *_SHARED,
        Factor("hairstyle", "choice", MAN_HAIR, weight=1.0),
        Factor("beard", "choice", BEARDS, weight=1.0),
        Factor("top", "choice", _TOPS, weight=0.7),
        Factor("top_colour", "colour", weight=1.5),
        Factor("legs_colour", "colour", weight=1.5),
    ),
    "woman": (
        *_SHARED,
        Factor("hairstyle", "choice", WOMAN_HAIR, weight=1.2),
        Factor("outfit", "choice", _OUTFITS, weight=1.2),
        Factor("top_colour", "colour", weight=1.5),
        Factor("second_colour", "colour", weight=1.2),
        Factor("legs_colour", "colour", weight=0.5),
    ),
    "boy": (
        *_SHARED,
        Factor("hairstyle", "choice", BOY_HAIR, weight=1.0),
        Factor("top", "choice", _TOPS, weight=0.7),
        Factor("top_colour", "colour", weight=1.5),
        Factor("legs_colour", "colour", weight=1.2),
        Factor("sock_colour", "colour", weight=0.5),
    ),
    "girl": (
        *_SHARED,
        Factor("hairstyle", "choice", GIRL_HAIR, weight=1.2),
        Factor("outfit", "choice", _FROCKS, weight=1.0),
        Factor("top_colour", "colour", weight=1.5),
        Factor("second_colour", "colour", weight=1.2),
        Factor("sock_colour", "colour", weight=0.5),
    ),
}
# how much of the legs a skirt covers, and half its width at the hem
_SKIRTS = {
    "woman": {"dress": (0.52, 0.2), "gown": (0.88, 0.2), "skirt": (0.52, 0.18), "coat": (0.64, 0.165)},
    "girl": {"dress": (0.55, 0.175), "pinafore": (0.58, 0.19), "tutu": (0.4, 0.235)},
}
ACTIONS: dict[str, tuple[str, ...]] = {word: tuple(POSES) for word in FACTORS}


@dataclass(frozen=True)
class _Look:
    """The colours and forms that the drawing needs, worked out once per figure."""

    skin: RGB
    hair: RGB
    top: RGB
    trim: RGB
    legs: RGB
    shoes: RGB
    sleeve: RGB
    sleeve_length: str
    breadth: float


def _look(identity: Identity) -> _Look:
    word = identity.class_word
    top = identity.colour("top_colour")
    cloth = (
        identity.colour("second_colour")
        if word in ("woman", "girl") and identity.choice("outfit") in _TWO_PIECE
        else top
    )
    trim = set_apart(identity.colour("pattern_colour"), cloth)
    sleeve, length = top, "long"
    if word in ("man", "boy"):
        form = identity.choice("top")
        sleeve = trim if form == "raglan" else top
        length = {"tshirt": "short", "vest": "none"}.get(form, "long")
    else:
        form = identity.choice("outfit")
        length = {
            "dress": "short",
            "gown": "none",
            "skirt": "long",
            "coat": "long",
            "tutu": "none",
            "pinafore": "long",
        }[form]
        sleeve = identity.colour("second_colour") if form == "pinafore" else top
    legs = identity.colour("legs_colour") if word in ("man", "woman", "boy") else identity.colour("sock_colour")
    build = identity.number("build")
    return _Look(
        skin=identity.colour("skin"),
        hair=set_apart(hair_shade(identity.number("hair_colour")), identity.colour("skin")),
        top=top,
        trim=trim,
        legs=legs,
        shoes=identity.colour("shoe_colour"),
        sleeve=sleeve,
        sleeve_length=length,
        breadth=0.88 + 0.26 * build,
    )


def draw(pen: Pen, identity: Identity, action: str) -> Drawn:
    """Draw a person.

    Args:
        pen: the figure's pen.
        identity: of class man, woman, boy or girl.
        action: one of ACTIONS.

    Returns:
        The skeleton and the places of accessories.
    """
    word, pose = identity.class_word, POSES[action]
    body, look = BODIES[word], _look(identity)
    joints = place_joints(pen, body, action, look.breadth)
    head = joints.trunk.moved(0.0, body.torso + 0.02).turned(pose.tilt)
    face = head.moved(0.0, body.head * 0.98, body.head)
    tie = identity.colour("second_colour") if word == "girl" else look.trim
    draw_back_hair(face, identity.choice("hairstyle"), body.head_ratio, look.hair, tie)
    raised = abs(pose.arm_l[0]) > 90
    if not raised:
        _draw_arm(joints.trunk, joints.arm_l, body, look, 0.84)
    for leg, bend, tone in ((joints.leg_l, pose.leg_l, 0.84), (joints.leg_r, pose.leg_r, 1.0)):
        _draw_leg(joints.base, leg, bend, identity, look, tone)
    _draw_trunk(joints, body, identity, look, pose)
    _draw_arm(joints.trunk, joints.arm_r, body, look, 1.0)
    head.box(-0.3 * body.head, -0.05, 0.3 * body.head, 0.05, shade(look.skin, 0.82))
    _draw_head(face, identity, look, pose.mood)
    if raised:
        _draw_arm(joints.trunk, joints.arm_l, body, look, 0.94)
    return _drawn(joints, head, body)


def _drawn(joints: Joints, head: Pen, body: Body) -> Drawn:
    centre, width = body.head * 0.98, body.head * body.head_ratio * 2
    skeleton = {"head": head.place(0.0, centre), "neck": head.place(0.0, 0.0)}
    for side, arm, leg in (("l", joints.arm_l, joints.leg_l), ("r", joints.arm_r, joints.leg_r)):
        for name, (x, y) in zip(("shoulder", "elbow", "hand"), arm, strict=True):
            skeleton[f"{name}_{side}"] = joints.trunk.place(x, y)
        for name, (x, y) in zip(("hip", "knee", "foot"), leg, strict=True):
            skeleton[f"{name}_{side}"] = joints.base.place(x, y)
    child = body.head > 0.17
    return Drawn(
        skeleton=skeleton,
        head=head,
        top=(0.0, centre + body.head * 0.86),
        head_width=width,
        eyes=(0.1 * body.head, centre - (0.14 * body.head if child else 0.0)),
        eye_span=body.head * 1.4,
        neck=(0.0, 0.0),
        neck_width=body.head * 0.9,
    )


def _draw_arm(pen: Pen, arm: tuple[Point, Point, Point], body: Body, look: _Look, tone: float) -> None:
    skin, sleeve, width = shade(look.skin, tone), shade(look.sleeve, tone), body.arm_width
    if look.sleeve_length == "long":
        draw_limb(pen, arm, width, sleeve, rounded=True)
    else:
        draw_limb(pen, arm, width * 0.9, skin, rounded=True)
        if look.sleeve_length == "short":
            (x0, y0), (x1, y1) = arm[0], arm[1]
            draw_limb(pen, [arm[0], (x0 + (x1 - x0) * 0.72, y0 + (y1 - y0) * 0.72)], width * 1.15, sleeve, rounded=True)
    pen.ellipse(*arm[2], width * 0.62, width * 0.62, skin)


def _draw_leg(
    pen: Pen, leg: tuple[Point, Point, Point], bend: tuple[float, float], identity: Identity, look: _Look, tone: float
) -> None:
    word = identity.class_word
    width = BODIES[word].leg_width
    hip, knee, foot = leg
    turn = bend[1] * 0.8
    pen_foot = pen.turned(turn, foot)
    long = 0.062 if word == "man" else 0.054
    if word in ("man", "woman"):
        draw_limb(pen, leg, width, shade(look.legs, tone), rounded=True)
    else:
        draw_limb(pen, leg, width * 0.86, shade(look.skin, tone))
        sock = identity.colour("sock_colour")
        middle = ((knee[0] + foot[0]) / 2, (knee[1] + foot[1]) / 2)
        draw_limb(pen, [middle, foot], width * 0.98, shade(sock, tone))
    if word == "boy":
        draw_limb(
            pen,
            [hip, (hip[0] + (knee[0] - hip[0]) * 0.95, hip[1] + (knee[1] - hip[1]) * 0.95)],
            width * 1.4,
            shade(look.legs, tone),
            rounded=True,
        )
    pen_foot.ellipse(foot[0] + 0.022, foot[1] - 0.002, long, 0.034, shade(look.shoes, tone))


def _draw_trunk(joints: Joints, body: Body, identity: Identity, look: _Look, pose: Pose) -> None:
    pen, word = joints.trunk, identity.class_word
    s, w, h, t = body.shoulder * look.breadth, body.waist * look.breadth, body.hip * look.breadth, body.torso
    outline = [(-h, -0.02), (-w, t * 0.4), (-s, t * 0.82), (-s * 0.8, t), (-0.03, t + 0.03)]
    outline += [(-x, y) for x, y in reversed(outline)]
    if word in ("man", "boy"):
        pen.polygon([(-h, -0.07), (h, -0.07), (h, 0.02), (-h, 0.02)], look.legs)
        pen.polygon(outline, look.top)
        pen.polygon([(w * 0.6, -0.02), *reversed(outline[-4:])], shade(look.top, 0.86))
        draw_pattern(pen, identity.choice("pattern"), (-w * 0.88, 0.0, w * 0.88, t * 0.78), look.trim)
        pen.polygon([(-0.055, t + 0.03), (0.055, t + 0.03), (0.0, t - 0.045)], look.trim)
        return
    pen.polygon(outline, look.top)
    _draw_skirt(joints, body, identity, look, pose)


def _draw_skirt(joints: Joints, body: Body, identity: Identity, look: _Look, pose: Pose) -> None:
    form, t = identity.choice("outfit"), body.torso
    w, second = body.waist * look.breadth, identity.colour("second_colour")
    share, flare = _SKIRTS[identity.class_word][form]
    length = (body.thigh + body.shin) * share
    flare *= pose.flare * (0.6 + 0.4 * look.breadth)
    colour = second if form in _TWO_PIECE else look.top
    pen = joints.trunk.turned(pose.skirt)
    hem = [(flare, -length * 0.92), (flare * 0.8, -length), (-flare * 0.8, -length), (-flare, -length * 0.92)]
    pen.polygon([(-w, t * 0.36), (w, t * 0.36), *hem], colour)
    draw_pattern(pen, identity.choice("pattern"), (-flare * 0.52, -length * 0.84, flare * 0.52, 0.0), look.trim)
    belt = look.trim if form in _TWO_PIECE else second
    joints.trunk.polygon([(-w * 1.04, t * 0.3), (w * 1.04, t * 0.3), (w * 1.04, t * 0.46), (-w * 1.04, t * 0.46)], belt)
    if form == "coat":
        joints.trunk.polygon([(-0.07, t + 0.03), (0.07, t + 0.03), (0.0, t * 0.56)], second)
    elif form == "pinafore":
        joints.trunk.polygon([(-w * 0.5, t), (w * 0.5, t), (w * 0.5, t * 0.4), (-w * 0.5, t * 0.4)], second)
    else:
        joints.trunk.polygon([(-0.05, t + 0.03), (0.05, t + 0.03), (0.0, t * 0.78)], look.skin)


def _draw_head(face: Pen, identity: Identity, look: _Look, mood: str) -> None:
    word, width = identity.class_word, BODIES[identity.class_word].head_ratio
    draw_head(face, width, BODIES[word].jaw, look.skin)
    if word == "man":
        draw_beard(face, identity.choice("beard"), width, shade(look.hair, 0.92))
        draw_brows(face, shade(look.hair, 0.6))
    draw_face(face, mood, look.skin, word in ("woman", "girl"), word in ("boy", "girl"))
    draw_front_hair(face, identity.choice("hairstyle"), width, look.hair)
