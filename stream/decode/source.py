"""The frames of a segment by the decoder that the plan names, and by the CPU from where that one gives up."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from dataclasses import replace

from stream.batches import Segment
from stream.config import Config
from stream.decode.packets import Note
from stream.decode.plan import NAMES, DecodePlan, Unfit
from stream.decode.pyav import Taken, sampled_frames
from stream.decode.watch import hung_before, watched


def decoded_frames(
    segment: Segment, config: Config, plan: DecodePlan, note: Note, *, device: int | None = None
) -> Generator[Taken, None, None]:
    """Frames of a video segment in presentation order.

    What another decoder than the CPU's cannot do is done on the CPU from the frame after its last one, and
    told to ``note``.

    Args:
        device: the GPU that frames are decoded to, None for the host's memory.

    Raises:
        SourceError: the source cannot be opened or stopped answering.
    """
    if plan.fallback is not None and segment.index == 0:
        used = "on the CPU" if plan.decoder == "cpu" else f"by {plan.fallback.used}"
        note(f"decoded {used} and not by {plan.fallback.wanted}: {plan.fallback.reason}")
    if plan.decoder == "cpu":
        yield from sampled_frames(segment, config, plan, note)
        return
    after: float | None = None
    try:
        hung = hung_before(plan.decoder)
        if hung:
            raise Unfit(hung)
        fast = _fast_frames(segment, config, plan, note, device)
        with closing(watched(fast, plan.decoder, config.decode.patience_s, segment.video.uri)) as frames:
            for taken in frames:
                after = taken.time
                yield taken
                del taken
        return
    except Unfit as why:
        rest = "the segment" if after is None else f"the segment after {after:.3f} s"
        note(f"{NAMES[plan.decoder]}: {why}; {rest} is decoded on the CPU")
    yield from sampled_frames(segment, config, replace(plan, decoder="cpu"), note, after=after)


def _fast_frames(
    segment: Segment, config: Config, plan: DecodePlan, note: Note, device: int | None
) -> Generator[Taken, None, None]:
    if plan.decoder == "nvdec":
        from stream.decode.nvdec import nvdec_frames

        return nvdec_frames(segment, config, note, device=device or 0)
    from stream.decode.dali import dali_frames

    return dali_frames(segment, config, device=device)
