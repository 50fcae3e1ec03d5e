"""What a character, a look and a pose are: frozen specs without any drawing in them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from stream.cartoon.draw import Color, hsv, mix
from stream.errors import ConfigError

FAMILIES = ("human", "toddler", "animal", "quadruped", "bird", "blob", "robot", "creature", "flyer")
"""Body plans. Humans, toddlers, animals, robots and creatures stand on two legs."""

LOOKS = ("flat", "cel", "hose", "bare", "cgi", "fur")
"""Kinds of look: flat colours, cel shadows, 1930s rubber hose, no outlines, soft CGI, CGI with fur."""
EXPRESSIONS = ("neutral", "happy", "angry", "sad", "surprised")


@dataclass(frozen=True)
class Look:
    """How a production draws everybody.

    `line` is the outline's width as a share of the character's height (0: no outlines), `shading` one of
    flat, cel, soft; `fur` the length of fur spikes as a share of the height; `texture` the strength of
    surface noise (0..1); `grey` draws in black and white; `hose` gives limbs without elbows and pie-cut
    eyes, as in the 1930s.
    """

    ink: Color = (28, 22, 30)
    line: float = 0.010
    shading: str = "flat"
    fur: float = 0.0
    texture: float = 0.0
    grey: bool = False
    hose: bool = False

    @classmethod
    def named(cls, kind: str, seed: int = 0) -> Look:
        """A look of one kind (see LOOKS), its ink and widths by `seed`. Raises ConfigError for an unknown
        kind.
        """
        if kind not in LOOKS:
            raise ConfigError(f"style: expected one of {', '.join(LOOKS)}, got {kind!r}; choose one of them")
        return cls._of(kind, np.random.default_rng([seed, 0x100C]))

    @classmethod
    def random(cls, rng: np.random.Generator) -> Look:
        """One of the looks of a century: flat or cel TV, rubber hose, no outlines, soft CGI with or
        without fur.
        """
        return cls._of(str(rng.choice(LOOKS, p=[0.24, 0.28, 0.13, 0.1, 0.12, 0.13])), rng)

    @classmethod
    def _of(cls, kind: str, rng: np.random.Generator) -> Look:
        tint = hsv(rng.random(), 0.5, 0.25)
        ink = mix((18, 14, 20), tint, float(rng.random()) * 0.8)
        line = float(rng.choice([0.005, 0.008, 0.011, 0.015]))
        if kind == "hose":
            return cls((12, 12, 12), max(line, 0.008), "flat", grey=bool(rng.random() < 0.8), hose=True)
        if kind == "bare":
            return cls(ink, 0.0, str(rng.choice(["flat", "cel"])))
        if kind == "cgi":
            return cls(ink, 0.0, "soft", texture=float(rng.uniform(0.0, 0.25)))
        if kind == "fur":
            return cls(
                ink, 0.0, "soft", fur=float(rng.uniform(0.006, 0.014)), texture=float(rng.uniform(0.3, 0.8))
            )
        return cls(ink, line, kind, grey=bool(rng.random() < 0.06))


@dataclass(frozen=True)
class Character:
    """A character's model sheet. Lengths are shares of the standing height before normalization.

    Raising `head` makes the head larger against the body (toddlers), `head_aspect` wider; `jaw` over 0
    widens the lower face (pear), under 0 narrows it; `belly` fattens the torso's middle.
    """

    name: str
    family: str
    look: Look
    main: Color
    second: Color
    accent: Color
    hair_color: Color
    top: Color
    bottom: Color
    shoe: Color
    iris: Color
    head: float = 0.26
    head_aspect: float = 1.0
    head_box: float = 2.0
    jaw: float = 0.0
    neck: float = 0.03
    torso: float = 0.32
    shoulder: float = 0.26
    waist: float = 0.22
    hip: float = 0.24
    belly: float = 0.0
    leg: float = 0.38
    arm: float = 0.36
    limb: float = 0.07
    length: float = 0.6
    eyes: str = "oval"
    eye_size: float = 0.2
    eye_gap: float = 0.42
    eye_count: int = 2
    brows: float = 0.5
    nose: str = "dot"
    muzzle: float = 0.0
    ears: str = "none"
    ear_size: float = 0.5
    hair: str = "none"
    hat: str = "none"
    beard: str = "none"
    glasses: str = "none"
    clothes: str = "none"
    sleeves: float = 0.5
    pattern: str = "none"
    tail: str = "none"
    hands: str = "mitten"
    wings: str = "none"
    extra: str = "none"
    seed: int = 0


@dataclass(frozen=True)
class Pose:
    """One drawing of a character.

    `facing` -1 (left profile) .. 0 (to us) .. 1 (right profile); `back` turns it away from us. `phase`
    (0..1) is the walk cycle's and `stride` its amplitude (0: standing). `arms` are the left and right arm's
    angles from hanging (radians, up to about 3), `bends` their elbows (-1..1). `lean` is a shear, `squat`
    0..1 folds the legs, `jump` 0..1 tucks them, `stretch` over 0 lengthens the drawing and under 0 squashes
    it. `mouth` and `blink` are 0..1.
    """

    facing: float = 0.0
    back: bool = False
    phase: float = 0.0
    stride: float = 0.0
    arms: tuple[float, float] = (0.25, 0.25)
    bends: tuple[float, float] = (0.2, 0.2)
    lean: float = 0.0
    squat: float = 0.0
    jump: float = 0.0
    stretch: float = 0.0
    tilt: float = 0.0
    expression: str = "neutral"
    mouth: float = 0.0
    blink: float = 0.0
    gaze: tuple[float, float] = (0.0, 0.0)

    @classmethod
    def random(cls, rng: np.random.Generator) -> Pose:
        """Any pose a scene may ask for; most face us or three quarters, a tenth show the back."""
        kind = rng.random()
        facing = float(
            rng.uniform(-0.35, 0.35) if kind < 0.3 else rng.uniform(0.3, 1.0) * rng.choice([-1, 1])
        )
        walking = rng.random() < 0.45
        lively = rng.random() < 0.4
        arms = rng.uniform(0.0, 2.9 if lively else 1.0, 2)
        bends = rng.uniform(-0.5, 0.9, 2)
        return cls(
            facing=facing,
            back=bool(rng.random() < 0.1),
            phase=float(rng.random()),
            stride=float(rng.uniform(0.4, 1.1)) if walking else 0.0,
            arms=(float(arms[0]), float(arms[1])),
            bends=(float(bends[0]), float(bends[1])),
            lean=float(rng.normal(0, 0.08)),
            squat=float(rng.uniform(0.2, 0.9)) if rng.random() < 0.12 else 0.0,
            jump=float(rng.uniform(0.3, 1.0)) if rng.random() < 0.1 else 0.0,
            stretch=float(rng.normal(0, 0.05)),
            tilt=float(rng.normal(0, 0.12)),
            expression=str(rng.choice(EXPRESSIONS)),
            mouth=float(rng.random()) if rng.random() < 0.5 else 0.0,
            blink=1.0 if rng.random() < 0.08 else 0.0,
            gaze=(float(rng.uniform(-1, 1)), float(rng.uniform(-0.6, 0.6))),
        )

    @classmethod
    def walk(cls, phase: float, facing: float = 1.0, stride: float = 0.8, **changes: object) -> Pose:
        """The walk cycle's drawing at `phase` (0..1), arms swinging against the legs; `changes` replace
        fields.
        """
        swing = float(np.sin(2 * np.pi * phase)) * stride * 0.7
        pose = cls(
            facing=facing,
            phase=phase % 1.0,
            stride=stride,
            arms=(0.15 - swing, 0.15 + swing),
            bends=(0.3, 0.3),
            lean=0.04 * facing,
            stretch=0.03 * float(np.cos(4 * np.pi * phase)),
        )
        return replace(pose, **changes)  # type: ignore[arg-type]
