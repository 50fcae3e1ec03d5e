"""Drawing lots for a character: families, proportions, palettes and accessories that go together."""

from __future__ import annotations

from typing import Any

import numpy as np

from stream.cartoon.draw import Color, hsv, lit, mix, shaded
from stream.cartoon.model import FAMILIES, Character, Look

_WEIGHTS = (0.26, 0.08, 0.2, 0.12, 0.09, 0.07, 0.06, 0.08, 0.04)
_SKINS: tuple[Color, ...] = (
    (255, 224, 196),
    (250, 208, 170),
    (238, 186, 140),
    (205, 146, 100),
    (158, 102, 66),
    (104, 66, 46),
    (244, 214, 60),
)
_HAIRS: tuple[Color, ...] = (
    (40, 28, 26),
    (92, 56, 32),
    (150, 88, 40),
    (226, 178, 76),
    (206, 82, 40),
    (236, 232, 226),
    (120, 120, 128),
    (214, 72, 130),
    (70, 120, 210),
    (90, 180, 90),
)


def _pick(rng: np.random.Generator, items: str) -> str:
    """One of the space-separated words; repeated words are likelier."""
    return str(rng.choice(items.split()))


def _cloth(rng: np.random.Generator) -> Color:
    if rng.random() < 0.2:
        return hsv(0.0, 0.0, float(rng.choice([0.12, 0.3, 0.6, 0.95])))
    return hsv(float(rng.random()), float(rng.uniform(0.45, 0.95)), float(rng.uniform(0.4, 1.0)))


def _fur(rng: np.random.Generator) -> Color:
    """Fur and hide: half of them natural browns and greys, half cartoon colours."""
    if rng.random() < 0.5:
        return hsv(
            float(rng.uniform(0.03, 0.13)), float(rng.uniform(0.15, 0.8)), float(rng.uniform(0.3, 0.98))
        )
    if rng.random() < 0.4:
        return hsv(0.6, float(rng.uniform(0, 0.12)), float(rng.choice([0.16, 0.3, 0.5, 0.7, 0.93])))
    return hsv(float(rng.random()), float(rng.uniform(0.35, 0.9)), float(rng.uniform(0.45, 1.0)))


def random_character(
    rng: np.random.Generator, look: Look | None = None, family: str | None = None
) -> Character:
    """A character in `look` (random where None) of `family` (random where None)."""
    look = look or Look.random(rng)
    family = family or str(rng.choice(FAMILIES, p=_WEIGHTS))
    u = rng.uniform
    main = _fur(rng)
    spec: dict[str, Any] = {
        "name": "Character",
        "family": family,
        "look": look,
        "main": main,
        "second": lit(main, float(u(0.45, 0.8))) if rng.random() < 0.75 else _fur(rng),
        "accent": _cloth(rng),
        "hair_color": _HAIRS[int(rng.integers(len(_HAIRS)))],
        "top": _cloth(rng),
        "bottom": _cloth(rng),
        "shoe": _cloth(rng) if rng.random() < 0.4 else hsv(float(u(0, 0.1)), 0.5, float(u(0.1, 0.45))),
        "iris": hsv(float(rng.random()), 0.7, 0.6),
        "seed": int(rng.integers(1 << 30)),
        "eyes": _pick(rng, "oval oval oval joined joined dot dot anime sleepy small"),
        "eye_size": float(u(0.15, 0.26)),
        "eye_gap": float(u(0.36, 0.5)),
        "brows": float(u(0.0, 1.0)),
        "hands": _pick(rng, "mitten mitten glove paw"),
        "sleeves": float(rng.choice([0.0, 0.35, 1.0])),
        "pattern": _pick(rng, "none none none stripes dots buttons emblem"),
        "hat": _pick(
            rng, "none none none none none none cap cap tophat beanie cone crown bowler bow helmet cowboy"
        ),
        "glasses": _pick(rng, "none none none none none none none round square dark"),
        "extra": _pick(rng, "none none none none none scarf tie cape belt bag bowtie"),
        "limb": float(u(0.045, 0.1)),
    }
    if look.hose:
        spec |= {
            "eyes": _pick(rng, "pie pie oval joined"),
            "limb": float(u(0.03, 0.05)),
            "eye_size": float(u(0.22, 0.3)),
        }
        spec |= {"hands": _pick(rng, "glove glove glove mitten")}
    builders = {
        "human": _human, "toddler": _toddler, "animal": _animal, "quadruped": _quadruped, "bird": _bird,
        "blob": _blob, "robot": _robot, "creature": _creature, "flyer": _flyer,
    }  # fmt: skip
    spec |= builders[family](rng, spec)
    return Character(**spec)


def _human(rng: np.random.Generator, spec: dict[str, Any]) -> dict[str, Any]:
    u = rng.uniform
    build = _pick(rng, "average tall short fat strong thin")
    skin = _SKINS[int(rng.integers(len(_SKINS)))]
    if rng.random() < 0.08:
        skin = hsv(float(rng.random()), 0.45, 0.8)
    shape = {
        "average": (0.27, 0.3, 0.26, 0.21, 0.23, 0.03, 0.38),
        "tall": (0.2, 0.32, 0.22, 0.16, 0.18, 0.0, 0.48),
        "short": (0.36, 0.28, 0.3, 0.28, 0.3, 0.06, 0.26),
        "fat": (0.26, 0.38, 0.34, 0.42, 0.36, 0.14, 0.28),
        "strong": (0.2, 0.38, 0.48, 0.26, 0.22, 0.0, 0.34),
        "thin": (0.25, 0.3, 0.17, 0.13, 0.15, 0.0, 0.44),
    }[build]
    head, torso, shoulder, waist, hip, belly, leg = (v * float(u(0.9, 1.12)) for v in shape)
    return {
        "main": skin,
        "second": lit(skin, 0.3),
        "head": head,
        "torso": torso,
        "shoulder": shoulder,
        "waist": waist,
        "hip": hip,
        "belly": belly,
        "leg": leg,
        "arm": float(u(0.32, 0.44)),
        "neck": float(u(0.0, 0.05)),
        "head_aspect": float(u(0.72, 1.15)),
        "head_box": float(u(1.8, 3.2)),
        "jaw": float(u(-0.25, 0.3)),
        "limb": spec["limb"] * (1.35 if build in ("fat", "strong") else 0.85 if build == "thin" else 1.0),
        "ears": "human" if rng.random() < 0.85 else "none",
        "ear_size": float(u(0.25, 0.5)),
        "hair": _pick(rng, "bald cap cap spiky bob bob long long pony bun afro mohawk pigtails curls side"),
        "nose": _pick(rng, "dot long long round round hook button"),
        "eye_size": spec["eye_size"] * 0.85,
        "beard": _pick(rng, "none none none none none moustache beard goatee stubble"),
        "clothes": _pick(rng, "shirt shirt shirt dress dress overalls coat robe suit"),
        "hands": "glove" if spec["look"].hose else "mitten",
    }


def _toddler(rng: np.random.Generator, spec: dict[str, Any]) -> dict[str, Any]:
    u = rng.uniform
    animal = rng.random() < 0.4
    base = _animal(rng, spec) if animal else _human(rng, spec)
    return base | {
        "head": float(u(0.5, 0.66)),
        "torso": float(u(0.2, 0.28)),
        "leg": float(u(0.12, 0.2)),
        "arm": float(u(0.18, 0.26)),
        "shoulder": float(u(0.2, 0.28)),
        "waist": float(u(0.22, 0.3)),
        "hip": float(u(0.24, 0.32)),
        "belly": 0.04,
        "neck": 0.0,
        "head_aspect": float(u(0.95, 1.3)),
        "head_box": float(u(2.0, 2.6)),
        "jaw": float(u(0.0, 0.3)),
        "beard": "none",
        "eye_size": float(u(0.17, 0.26)),
        "nose": base["nose"] if animal else "button",
        "eyes": _pick(rng, "oval anime anime dot joined"),
    }


def _animal(rng: np.random.Generator, spec: dict[str, Any]) -> dict[str, Any]:
    u = rng.uniform
    species = _pick(rng, "bunny bunny cat dog mouse bear fox pig squirrel raccoon frog cow elephant monkey")
    ears, tail, nose, muzzle = {
        "bunny": ("long", "puff", "dot", 0.25),
        "cat": ("pointy", "thin", "dot", 0.2),
        "dog": ("floppy", "thin", "oval", 0.55),
        "mouse": ("round", "thin", "oval", 0.4),
        "bear": ("round", "puff", "oval", 0.4),
        "fox": ("pointy", "bushy", "oval", 0.5),
        "pig": ("pointy", "curl", "disc", 0.3),
        "squirrel": ("pointy", "bushy", "dot", 0.25),
        "raccoon": ("round", "ringed", "oval", 0.35),
        "frog": ("none", "none", "none", 0.0),
        "cow": ("floppy", "thin", "disc", 0.5),
        "elephant": ("fan", "thin", "trunk", 0.2),
        "monkey": ("round", "thin", "none", 0.5),
    }[species]
    fat = float(u(0.0, 1.0)) ** 2
    return {
        "head": float(u(0.28, 0.46)),
        "head_aspect": float(u(0.9, 1.35)),
        "head_box": float(u(1.9, 2.5)),
        "jaw": float(u(-0.1, 0.45)),
        "torso": float(u(0.26, 0.36)),
        "shoulder": float(u(0.17, 0.26)) + fat * 0.08,
        "waist": float(u(0.2, 0.3)) + fat * 0.18,
        "hip": float(u(0.2, 0.3)) + fat * 0.14,
        "belly": 0.05 + 0.1 * fat,
        "leg": float(u(0.16, 0.34)),
        "arm": float(u(0.26, 0.38)),
        "neck": float(u(-0.03, 0.02)),
        "ears": ears,
        "ear_size": float(u(0.5, 1.1)),
        "tail": tail,
        "nose": nose,
        "muzzle": muzzle * float(u(0.7, 1.3)),
        "eyes": "bulge" if species == "frog" else spec["eyes"],
        "clothes": _pick(rng, "none none none none shirt shorts vest overalls dress"),
        "hair": _pick(rng, "none none none none tuft tuft spiky"),
        "hands": spec["hands"],
        "extra": spec["extra"],
        "pattern": _pick(rng, "none none belly belly belly spots stripes mask"),
        "hat": spec["hat"] if rng.random() < 0.5 else "none",
    }


def _quadruped(rng: np.random.Generator, spec: dict[str, Any]) -> dict[str, Any]:
    u = rng.uniform
    base = _animal(rng, spec)
    if base["tail"] == "none":
        base["tail"] = "thin"
    horse = rng.random() < 0.3
    return base | {
        "length": float(u(0.5, 1.0)),
        "torso": float(u(0.26, 0.42)),
        "leg": float(u(0.14, 0.4)),
        "head": float(u(0.26, 0.46)),
        "neck": float(u(0.15, 0.4)) if horse else float(u(-0.05, 0.08)),
        "limb": float(u(0.07, 0.13)),
        "clothes": "none",
        "hat": spec["hat"] if rng.random() < 0.25 else "none",
        "extra": _pick(rng, "none none none scarf collar collar"),
        "hair": "mane" if horse else base["hair"],
        "glasses": "none",
        "muzzle": max(0.3, base["muzzle"]),
        "nose": base["nose"] if base["nose"] != "none" else "oval",
        "eyes": spec["eyes"],
    }


def _bird(rng: np.random.Generator, spec: dict[str, Any]) -> dict[str, Any]:
    u = rng.uniform
    return {
        "head": float(u(0.26, 0.42)),
        "head_aspect": float(u(0.85, 1.15)),
        "torso": float(u(0.3, 0.46)),
        "shoulder": float(u(0.16, 0.24)),
        "waist": float(u(0.26, 0.42)),
        "hip": float(u(0.22, 0.3)),
        "belly": float(u(0.03, 0.12)),
        "leg": float(u(0.08, 0.36)),
        "limb": float(u(0.02, 0.04)),
        "arm": float(u(0.28, 0.5)),
        "neck": float(u(-0.04, 0.22)) if rng.random() < 0.4 else -0.03,
        "nose": _pick(rng, "beak beak hookbeak bill"),
        "muzzle": float(u(0.3, 0.9)),
        "tail": "feathers",
        "hair": _pick(rng, "none none tuft crest"),
        "clothes": _pick(rng, "none none none none vest shirt"),
        "hands": "wing",
        "accent": hsv(float(u(0.04, 0.15)), 0.9, float(u(0.8, 1.0))),
        "shoe": hsv(float(u(0.04, 0.14)), 0.85, 0.9),
        "pattern": _pick(rng, "none belly belly spots"),
        "eyes": _pick(rng, "oval joined dot anime sleepy"),
    }


def _blob(rng: np.random.Generator, spec: dict[str, Any]) -> dict[str, Any]:
    u = rng.uniform
    return {
        "head": float(u(0.62, 0.86)),
        "head_aspect": float(u(0.7, 1.3)),
        "head_box": float(rng.choice([2.0, 2.0, 2.3, 3.5, 5.0])),
        "jaw": float(u(-0.1, 0.6)),
        "leg": float(u(0.03, 0.24)),
        "arm": float(u(0.2, 0.34)),
        "torso": 0.0,
        "neck": 0.0,
        "limb": float(u(0.04, 0.08)),
        "eye_size": float(u(0.13, 0.22)),
        "eye_count": int(rng.choice([2, 2, 2, 1, 3])),
        "nose": _pick(rng, "none none dot round oval"),
        "hair": _pick(rng, "none none none tuft spiky"),
        "ears": _pick(rng, "none none none horns antennae round pointy"),
        "clothes": _pick(rng, "none none shorts"),
        "pattern": _pick(rng, "none none spots stripes belly"),
        "ear_size": float(u(0.2, 0.4)),
        "main": hsv(float(rng.random()), float(u(0.4, 0.9)), float(u(0.5, 1.0))),
        "glasses": "none",
        "extra": "none",
    }


def _robot(rng: np.random.Generator, spec: dict[str, Any]) -> dict[str, Any]:
    u = rng.uniform
    metal = hsv(float(rng.random()), float(u(0.0, 0.55)), float(u(0.45, 0.9)))
    return {
        "main": metal,
        "second": shaded(metal, 0.3),
        "head": float(u(0.2, 0.36)),
        "head_aspect": float(u(0.9, 1.5)),
        "head_box": float(u(3.5, 9.0)),
        "torso": float(u(0.3, 0.42)),
        "shoulder": float(u(0.26, 0.4)),
        "waist": float(u(0.22, 0.36)),
        "hip": float(u(0.2, 0.34)),
        "leg": float(u(0.22, 0.36)),
        "arm": float(u(0.28, 0.4)),
        "neck": float(u(0.0, 0.05)),
        "eyes": _pick(rng, "lamp lamp visor oval dot"),
        "ears": _pick(rng, "antennae bolts antennae none"),
        "nose": "none",
        "brows": 0.0,
        "pattern": _pick(rng, "panel panel emblem buttons"),
        "hands": _pick(rng, "claw mitten"),
        "hair": "none",
        "hat": "none",
        "glasses": "none",
        "clothes": "none",
        "extra": "none",
        "eye_count": int(rng.choice([2, 2, 1])),
    }


def _creature(rng: np.random.Generator, spec: dict[str, Any]) -> dict[str, Any]:
    u = rng.uniform
    main = hsv(float(rng.random()), float(u(0.4, 0.9)), float(u(0.4, 0.95)))
    return _animal(rng, spec) | {
        "main": main,
        "second": mix(main, hsv(float(rng.random()), 0.4, 1.0), 0.6),
        "eye_count": int(rng.choice([2, 2, 1, 3])),
        "ears": _pick(rng, "horns horns antennae fan pointy none"),
        "tail": _pick(rng, "thick thick thin none"),
        "nose": _pick(rng, "none dot nostrils nostrils disc"),
        "muzzle": float(u(0.0, 0.5)),
        "hair": _pick(rng, "none tuft spikes mohawk"),
        "extra": _pick(rng, "teeth teeth cape none belt"),
        "pattern": _pick(rng, "belly spots stripes none"),
        "head_box": float(u(1.8, 3.5)),
        "jaw": float(u(-0.1, 0.6)),
        "arm": float(u(0.3, 0.5)),
        "wings": _pick(rng, "none none none bat"),
    }


def _flyer(rng: np.random.Generator, spec: dict[str, Any]) -> dict[str, Any]:
    u = rng.uniform
    return {
        "head": float(u(0.3, 0.44)),
        "torso": float(u(0.36, 0.5)),
        "shoulder": float(u(0.14, 0.2)),
        "waist": float(u(0.14, 0.22)),
        "hip": 0.1,
        "leg": float(u(0.08, 0.16)),
        "limb": 0.03,
        "arm": 0.2,
        "neck": -0.03,
        "ears": _pick(rng, "antennae antennae none"),
        "wings": _pick(rng, "butterfly butterfly bee fairy"),
        "nose": _pick(rng, "none dot"),
        "clothes": "none",
        "tail": "none",
        "hair": _pick(rng, "none none bob"),
        "pattern": _pick(rng, "stripes none belly"),
        "muzzle": 0.0,
        "ear_size": 0.6,
        "accent": hsv(float(rng.random()), 0.8, 0.95),
        "extra": "none",
    }
