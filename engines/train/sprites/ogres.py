"""Heavy and dark two-legged cel figures: ogres, strongmen, gorillas; cloaked people seen from any side."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from engines.train.sprites.cels import (
    Colour,
    Floats,
    Palette,
    Sketch,
    between,
    blob,
    curve,
    hsv,
    palette,
    polar,
    shade,
    towards,
    tube,
)
from engines.train.sprites.heads import beast_head, human_head, owl_head


def limb(
    sk: Sketch,
    at: ArrayLike,
    angles: tuple[float, float],
    lengths: tuple[float, float],
    widths: ArrayLike,
    colour: Colour,
    group: int,
) -> Floats:
    """An arm or leg of two bones; its end."""
    a = np.asarray(at, np.float64)
    b = a + polar(angles[0], lengths[0])
    c = b + polar(angles[1], lengths[1])
    w = np.asarray(widths, np.float64)
    w = np.interp(np.linspace(0, 1, 5), np.linspace(0, 1, len(w)), w)
    for upper, lower, wide in ((a, b, w[:3]), (b, c, w[2:])):  # a bone each: a bent band would cross itself
        sk.fill(tube(np.stack([upper, 0.5 * (upper + lower), lower]), wide, 4), colour, group)
    return c


def giant(rng: np.random.Generator, sk: Sketch) -> None:
    """Ogres, strongmen, trolls, gorillas, bears: a mountain of a body with a small head, or with two."""
    p = palette(rng, 0.2)
    hairy = rng.random() < 0.35
    skin = p.main if hairy else p.light
    cloth = p.main
    if not hairy and rng.random() < 0.3:  # blue, green and violet ogres
        skin = p.light = hsv(between(rng, 0, 1), between(rng, 0.1, 0.6), between(rng, 0.35, 0.85))
    view = "back" if rng.random() < 0.15 else "front"
    half = between(rng, 0.42, 0.75)  # of the shoulders
    waist = half * between(rng, 0.6, 1.15)
    legs = between(rng, 0.2, 0.55)
    thick = half * between(rng, 0.26, 0.42)
    g, body = sk.group(), sk.group()
    for s in (-1.0, 1.0):
        foot = limb(
            sk,
            [s * waist * 0.55, 0.5],
            (90 - s * 12, 90 - s * between(rng, -8, 8)),
            (legs / 2, legs / 2),
            [waist * 0.45, thick * 0.8],
            skin if rng.random() < 0.5 else shade(cloth, 0.7),
            g,
        )
        sk.fill(
            blob(rng, foot + np.array([s * thick * 0.4, 0.05]), thick * 1.1, 0.1),
            skin if rng.random() < 0.5 else p.second,
            g,
        )
    torso = [
        [0, -0.62],
        [half * 0.6, -0.6],
        [half, -0.42],
        [half * 0.95, -0.05],
        [waist, 0.3],
        [waist * 0.85, 0.6],
        [0, 0.66],
    ]
    trunk = curve([*torso, *[[-x, y] for x, y in torso[-2:0:-1]]])
    sk.fill(trunk, skin, body)
    dressed = not hairy and rng.random() < 0.65
    if dressed:  # a singlet or tunic; its shoulder straps leave the breast free
        top, hem = between(rng, -0.55, 0.1), 0.62 + between(rng, 0, legs * 0.6)
        tunic = [
            [0, top + 0.15],
            [half * 0.5, top],
            [half * 0.93, top + 0.2],
            [waist, 0.3],
            [waist * 1.02, hem],
            [0, hem + 0.05],
        ]
        sk.fill(curve([*tunic, *[[-x, y] for x, y in tunic[-2:0:-1]]]), cloth)
        if rng.random() < 0.5:
            sk.fill(tube([[-waist, 0.3], [0, 0.37], [waist, 0.3]], [0.06, 0.06]), p.accent)
    else:
        if rng.random() < 0.5:
            sk.fill(blob(rng, [0, 0.1], waist * 0.6, 0.4), p.second if hairy else shade(skin, 1.1))
        if view == "front":
            for s in (-1, 1):
                breast = [[s * half * 0.75, -0.3], [s * half * 0.5, -0.1], [s * half * 0.1, -0.16]]
                sk.stroke(curve(breast, 4, closed=False), shade(skin, 0.65), 0.02)
        if not hairy:
            pants = [
                [-waist, 0.35],
                [waist, 0.35],
                [waist * 0.9, 0.66],
                [0, 0.72 + 0.3 * legs * rng.random()],
                [-waist * 0.9, 0.66],
            ]
            sk.fill(curve(pants), p.second)
    heads = 2 if rng.random() < 0.3 else 1
    r = half * between(rng, 0.22, 0.4)
    for k in range(heads):
        sk.seen.clear()  # of two faces the nearer one
        x = (k - 0.5) * half * 0.95 if heads == 2 else 0.0
        at = np.array([x, -0.6 - r * between(rng, 0.4, 0.9)])
        sk.fill(tube(np.array([[x * 0.9, -0.45], at]), [r * 0.9, r * 0.75]), skin, sk.group())
        if hairy and view == "front" and rng.random() < 0.5:
            owl_head(sk, rng, at, r, p)
        elif hairy and view == "front":
            beast_head(sk, rng, at, r, p, between(rng, 0.2, 0.8), between(rng, 0, 0.4))
        else:
            human_head(
                sk,
                rng,
                at,
                r,
                p,
                view if heads == 1 or view == "back" else str(rng.choice(["front", "side"])),
                cloth,
            )
    pose = str(rng.choice(["hang", "hang", "akimbo", "folded", "flexed", "wide"]))
    arm = between(rng, 0.38, 0.55)
    sleeve = cloth if dressed and rng.random() < 0.3 else skin
    for s in (-1.0, 1.0):
        jitter = rng.normal(0, 8)
        first, second = {
            "hang": (78, 95),
            "akimbo": (50, 140),
            "folded": (85, 190),
            "flexed": (10, -80),
            "wide": (15, -10),
        }[pose]
        a = tuple(v + jitter if s > 0 else 180 - v - jitter for v in (first, second))
        arms = sk.group()
        at = np.array([s * (half - thick * 0.35), -0.38])
        hand = limb(
            sk,
            at,
            (a[0], a[1]),
            (arm, arm * 0.9),
            [thick * 1.05, thick, thick * 0.85, thick * 0.95, thick * 0.55],
            sleeve,
            arms,
        )
        if rng.random() < 0.4:
            ahead = polar(a[1])
            cuff = hand - 0.06 * ahead
            sk.fill(tube([cuff - 0.05 * ahead, cuff + 0.05 * ahead], [thick * 0.75, thick * 0.75]), p.accent)
        sk.fill(blob(rng, hand + polar(a[1], thick * 0.4), thick * 0.75, thick * 0.7), skin, sk.group())
    sk.turn(rng.normal(0, 0.06), between(rng, 0.85, 1.15), float(rng.choice([-1, 1])))


def dark_figure(rng: np.random.Generator, sk: Sketch) -> None:
    """Someone in a wide coat or in rags, little contrast inside: standing, bent, lying, swinging."""
    p = palette(rng, 0.65)
    p.second = towards(p.main, p.second, 0.4)
    view = str(rng.choice(["front", "side", "back"]))
    pose = str(rng.choice(["stand", "walk", "crouch", "sit", "bend", "lie", "swing", "wide"]))
    bow = {"crouch": 35, "sit": 10, "bend": 60, "swing": -15}.get(pose, 0) * (
        view == "side" or pose != "sit"
    ) + rng.normal(0, 6)
    thighs, shins = {
        "walk": ((65, 115), (75, 130)),
        "crouch": ((10, 40), (130, 140)),
        "sit": ((5, 15), (85, 95)),
        "swing": ((50, 100), (80, 140)),
        "wide": ((70, 110), (80, 100)),
    }.get(pose, ((85, 95), (88, 95)))
    hips = np.array([0.0, 0.0])
    wide = between(rng, 0.18, 0.34)
    neck = polar(-90 + bow, between(rng, 0.6, 0.8))
    across = np.array([-neck[1], neck[0]]) / np.linalg.norm(neck)
    bone, thick = between(rng, 0.3, 0.42), wide * between(rng, 0.3, 0.5)
    skin = p.light if rng.random() < 0.7 else towards(p.light, p.main, 0.5)
    g = sk.group()
    sleeve = shade(p.main, between(rng, 0.8, 1.15))

    def arm(s: float, group: int) -> None:
        first = {"swing": -80.0, "wide": 0.0 if s > 0 else 180.0}.get(
            pose, between(rng, 40, 110) if s > 0 else between(rng, 70, 140)
        )
        first += rng.normal(0, 15)
        bend = rng.normal(0, 35)
        hand = limb(
            sk,
            neck * 0.85 + across * s * wide * 0.7,
            (first, first + bend),
            (bone * 0.95, bone * 0.9),
            [thick, thick * 0.9, thick * between(rng, 0.7, 1.5)],
            sleeve,
            group,
        )
        sk.fill(
            blob(rng, hand + polar(first + bend, thick * 0.4), thick * 0.65, thick * 0.6), skin, sk.group()
        )

    arm(-1.0, sk.group())
    trousers = shade(p.main, between(rng, 0.6, 1.1)) if rng.random() < 0.7 else p.second
    for k, s in enumerate((-1.0, 1.0)):
        foot = limb(
            sk,
            hips + np.array([s * wide * 0.45, 0]),
            (thighs[k], shins[k]),
            (bone, bone),
            [thick * 1.3, thick, thick * 0.8],
            trousers,
            g,
        )
        toe = 0.1 if view == "side" else s * 0.06
        sk.fill(blob(rng, foot + np.array([toe, 0.03]), 0.13, 0.06), shade(p.main, 0.6), g)
    hem = (
        between(rng, 0.05, 0.75)
        if pose in ("stand", "walk", "wide", "swing", "lie")
        else between(rng, 0.05, 0.2)
    )
    flare = wide * between(rng, 0.9, 1.9)
    sway = rng.normal(0, 0.1)
    top = neck - across * wide * 0.3, neck + across * wide * 0.3
    shoulder = neck * 0.88 - across * wide, neck * 0.88 + across * wide
    tail = [
        [flare + sway, hem],
        [sway + 0.4 * flare, hem + 0.04],
        [sway - 0.3 * flare, hem - 0.02],
        [sway - flare, hem],
    ]
    belt = neck * 0.3 + across * wide * 0.95, neck * 0.3 - across * wide * 0.95
    coat = curve([top[0], top[1], shoulder[1], belt[0], *tail, belt[1], shoulder[0]])
    sk.fill(coat, p.main)
    if view != "back" and rng.random() < 0.5:
        sk.stroke(
            np.stack([neck * 0.95, hips + np.array([sway, hem])]),
            p.second if rng.random() < 0.5 else shade(p.main, 0.6),
            0.02,
        )
    if rng.random() < 0.4:
        sk.fill(
            tube([belt[0], neck * 0.25, belt[1]], [0.05, 0.06, 0.05]),
            p.accent if rng.random() < 0.5 else p.second,
        )
    over = pose not in ("swing", "wide") and rng.random() < 0.7  # a raised arm would hide the face
    if not over:
        arm(1.0, sk.group())
    r = wide * between(rng, 0.5, 0.95)
    at = neck * (1 + 0.5 * r / float(np.linalg.norm(neck))) + np.array([0.0, -0.3 * r])
    sk.fill(tube([neck * 0.85, at], [r * 0.6, r * 0.6]), skin, sk.group())
    palette_ = Palette(p.main, p.second, skin, p.accent, p.white, p.black)
    kind = rng.random()
    if kind < 0.2 and view == "side":
        beast_head(sk, rng, at, r, palette_, between(rng, 0.2, 1.0))
    elif kind < 0.3 and view == "front":
        owl_head(sk, rng, at, r, palette_)
    else:
        human_head(sk, rng, at, r, palette_, view, p.second if rng.random() < 0.5 else p.main)
    if over:
        arm(1.0, sk.group())
    turn = float(rng.choice([-1.5, 1.5])) if pose == "lie" else rng.normal(0, 0.1 if pose != "swing" else 0.5)
    sk.turn(turn, 1.0, float(rng.choice([-1, 1])))
