"""The picker on hand-made packets: what it feeds, what it leaves out, how much it keeps waiting."""

from __future__ import annotations

import math
import random
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.decode.sampling import Coded, EveryInterval, EveryKeyframe, OutOfOrder, PacketPicker


def stream(gops: int, length: int, b_frames: int) -> list[Coded]:
    """Groups of pictures I B..B P B..B P in decoding order, one tick a frame, closed."""
    packets: list[Coded] = []
    for gop in range(gops):
        first = gop * length
        order = [first]
        position = first + 1
        while position < first + length:
            end = min(position + b_frames, first + length - 1)
            order += [end, *range(position, end)]
            position = end + 1
        for pts in order:
            key = pts == first
            packets.append(Coded(None, pts, len(packets) - b_frames, 100, key=key))
    return packets


def run(packets: list[Coded], picker: PacketPicker) -> list[Coded]:
    fed = []
    for packet in packets:
        fed += list(picker.push(packet))
        if picker.rule.done:
            return fed
    return fed + list(picker.finish())


@given(
    st.integers(1, 6),
    st.integers(1, 40),
    st.integers(0, 4),
    st.fractions(Fraction(1, 10), 70, max_denominator=10),
    st.integers(0, 60),
)
def test_takes_the_first_frame_at_or_after_each_target(
    gops: int, length: int, b_frames: int, interval: Fraction, start: int
) -> None:
    packets = stream(gops, length, b_frames)
    step = float(interval)
    picker = PacketPicker(EveryInterval(step, Fraction(1), 0.0, math.inf))
    fed = run(packets, picker)
    exact = Fraction(str(step))
    want, k = [], 0
    for pts in range(gops * length):
        if pts >= k * exact:
            want.append(pts)
            k = math.floor(pts / exact) + 1
    assert list(picker.wanted) == want
    assert {c.pts for c in fed} >= set(want)
    # everything fed before a wanted picture in its group of pictures is fed too: it may refer to it
    place = {c.pts: i for i, c in enumerate(packets)}
    sent = {c.pts for c in fed}
    for pts in want:
        key = pts // length * length
        assert all(c.pts in sent for c in packets[place[key] : place[pts]])


def test_groups_without_a_target_are_not_fed() -> None:
    picker = PacketPicker(EveryInterval(100.0, Fraction(1), 0.0, math.inf))
    fed = run(stream(gops=30, length=10, b_frames=2), picker)
    assert [c.pts for c in fed] == [0, 100, 200]
    assert [c.restart for c in fed] == [False, True, True]


def test_an_endless_group_does_not_wait_for_ever() -> None:
    picker = PacketPicker(EveryInterval(10_000.0, Fraction(1), 0.0, math.inf), limit_bytes=5000)
    waiting = fed = 0
    for number, packet in enumerate(stream(gops=1, length=9000, b_frames=2)):
        fed += len(list(picker.push(packet)))
        waiting = max(waiting, number + 1 - fed)
    assert waiting <= 51  # 5000 bytes of packets of 100


def test_segments_that_meet_share_nothing_and_lose_nothing() -> None:
    rng = random.Random(5)
    for _ in range(200):
        interval = rng.choice([0.04, 0.3, 1.0, 1 / 3, 2.5])
        base = Fraction(1, rng.choice([24, 1000, 90000, 30000]))
        times, pts = [], 0
        while pts * base < 30:
            times.append(pts)
            pts += max(1, round(Fraction(rng.choice([1, 1, 1, 5, 90]), 24) / base))
        borders = [0.0, *sorted({float(k * Fraction(str(interval))) for k in rng.sample(range(1, 80), 3)})]
        parts = []
        for start, end in zip(borders, [*borders[1:], math.inf], strict=True):
            rule = EveryInterval(interval, base, start, end)
            parts += [t for t in times if rule.takes(t)]
        whole = EveryInterval(interval, base, 0.0, math.inf)
        assert parts == [t for t in times if whole.takes(t)]


def test_keyframes_alone_are_fed() -> None:
    picker = PacketPicker(EveryKeyframe(1.0, Fraction(1), 5.0, 35.0), keys_only=True)
    fed = run(stream(gops=6, length=10, b_frames=2), picker)
    assert [c.pts for c in fed] == [0, 10, 20, 30][4 - len(fed) :]
    assert list(picker.wanted) == [10, 20, 30]


def test_times_that_contradict_each_other_are_refused() -> None:
    picker = PacketPicker(EveryInterval(1.0, Fraction(1), 0.0, math.inf))
    list(picker.push(Coded(None, 10, 10, 1, key=True)))
    list(picker.push(Coded(None, 20, 20, 1)))
    with pytest.raises(OutOfOrder):
        list(picker.push(Coded(None, 5, 21, 1)))
