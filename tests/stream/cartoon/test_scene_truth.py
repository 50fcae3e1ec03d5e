"""The truth is what was drawn: recomputed from frames with and without each character."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from stream.cartoon.characters import Pose, draw_character, make_cast
from stream.cartoon.episode import render_frames
from stream.cartoon.props import draw_prop
from stream.cartoon.scene import SOLID, Drawer, Drawing, Layer, compose
from stream.cartoon.script import Script

GROUND = (1, 254, 2)  # a colour that no drawing has, so that any solid pixel differs from it


def _layer(index: int, x: int, y: int, height: int = 120) -> Layer:
    member = make_cast(3, 5)[index]
    sprite = draw_character(member, Pose(facing=0.4), height)
    return Layer(Drawing.of(sprite.rgba, sprite.anchor), x, y, member.name)


def _changed(with_it: np.ndarray, without: np.ndarray) -> tuple[int, int, int, int]:
    rows, cols = np.nonzero((with_it != without).any(axis=2))
    return int(cols.min()), int(rows.min()), int(cols.max()) + 1, int(rows.max()) + 1


@pytest.mark.parametrize("where", [(100, 60), (-30, 60), (270, 90), (100, -40), (150, 150)])
def test_box_is_what_changes_when_the_character_leaves(where: tuple[int, int]) -> None:
    background = Image.new("RGB", (320, 240), GROUND)
    layer = _layer(0, *where)
    # Faint edge pixels do not count as visible: compare with the sprite's solid pixels alone.
    rgba = np.array(layer.drawing.image)
    rgba[..., 3] = np.where(rgba[..., 3] >= SOLID, 255, 0)
    hard = Layer(Drawing.of(rgba, layer.drawing.anchor), layer.x, layer.y, layer.identity)
    drawn, truths = compose(background, [hard])
    empty, none = compose(background, [])
    assert none == []
    assert len(truths) == 1
    assert truths[0].box == _changed(drawn, empty)
    assert compose(background, [layer])[1] == truths
    inside = (
        truths[0].box[0] > 0 and truths[0].box[1] > 0 and truths[0].box[2] < 320 and truths[0].box[3] < 240
    )
    assert ("truncated" in truths[0].flags) == (not inside)


def test_occlusion_shrinks_the_box_and_is_flagged() -> None:
    background = Image.new("RGB", (320, 240), GROUND)
    back, front = _layer(0, 100, 60), _layer(1, 100, 60)
    wall = np.full((200, 60, 4), 255, np.uint8)
    free = compose(background, [back])[1][0]
    x1, _, x2, _ = free.box
    cut = int(x1 + 0.65 * (x2 - x1))
    hidden = compose(background, [back, Layer(Drawing.of(wall[:, : cut - int(x1)]), int(x1), 40)])[1]
    assert len(hidden) == 1
    assert hidden[0].box[0] >= cut
    assert hidden[0].box[2] == x2
    assert hidden[0].visible < free.visible == 1.0
    assert "occluded" in hidden[0].flags
    assert "occluded" not in free.flags
    covered = compose(background, [back, Layer(Drawing.of(np.full((220, 200, 4), 255, np.uint8)), 60, 10)])[1]
    assert covered == []
    # In front means later in the list.
    first, second = compose(background, [back, front])[1]
    assert (first.identity, second.identity) == (front.identity, back.identity)
    assert first.visible == 1.0
    assert second.visible < 1.0


def test_hardly_visible_characters_have_no_box() -> None:
    background = Image.new("RGB", (320, 240), GROUND)
    layer = _layer(0, 100, 60)
    width = layer.drawing.solid.shape[1]
    sliver = Layer(layer.drawing, 320 - max(1, width // 12), 60, layer.identity)
    assert compose(background, [sliver])[1] == []
    assert compose(background, [Layer(layer.drawing, 400, 60, layer.identity)])[1] == []


def test_props_are_never_in_the_truth() -> None:
    background = Image.new("RGB", (320, 240), GROUND)
    prop = Drawing.of(draw_prop("barrel", np.random.default_rng(0), 100))
    assert compose(background, [Layer(prop, 50, 50)])[1] == []


def test_episode_truth_matches_the_same_script_without_its_actors() -> None:
    cast = make_cast(3, 4)
    script = Script.random(cast, 4, seconds=12, width=320, height=180, fps=12)
    bare = replace(script, shots=tuple(replace(shot, actors=(), props=()) for shot in script.shots))
    seen = 0
    for number, ((image, truths), (empty, none)) in enumerate(
        zip(render_frames(script), render_frames(bare), strict=True)
    ):
        assert none == []
        if number % 5:
            continue
        outside = (image != empty).any(axis=2)
        for truth in truths:
            x1, y1, x2, y2 = (int(v) for v in truth.box)
            assert 0 <= x1 < x2 <= 320
            assert 0 <= y1 < y2 <= 180
            # Nearly all of the box's border rows and columns hold a pixel that the character changed.
            edges = [outside[y1, x1:x2], outside[y2 - 1, x1:x2], outside[y1:y2, x1], outside[y1:y2, x2 - 1]]
            assert sum(bool(edge.any()) for edge in edges) >= 3
            seen += 1
    assert seen > 20


def test_held_frames_are_the_same_array_and_every_member_appears() -> None:
    cast = make_cast(4, 1)
    script = Script.random(cast, 1, seconds=30, width=160, height=90, fps=24)
    last, held, frames = None, 0, 0
    names: set[str] = set()
    for image, truths in render_frames(script):
        assert image.shape == (90, 160, 3)
        assert image.dtype == np.uint8
        held += image is last
        last, frames = image, frames + 1
        names |= {truth.identity for truth in truths}
    assert frames == script.frames == 30 * 24
    assert 0.2 < held / frames < 0.95
    assert names == {member.name for member in cast}


def test_the_drawer_repeats_drawings_and_keeps_no_more_than_it_may() -> None:
    drawer = Drawer(make_cast(1, 2), keep_bytes=200_000)
    first = drawer.draw(0, Pose(), 60)
    assert drawer.draw(0, Pose(), 60) is first
    for step in range(60):
        drawer.draw(0, Pose.walk(step / 60), 60)
    assert 0 < drawer.held_bytes <= 200_000
    assert drawer.draw(0, Pose(), 60) is not first
