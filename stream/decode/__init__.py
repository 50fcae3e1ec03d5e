"""Segment -> FrameBatch: exactly the sampled frames, at the least work.

``decode_segment`` is the station; ``plan_decode`` says how it will go about it and why.
"""

from __future__ import annotations

from stream.decode.batching import decode_segment
from stream.decode.plan import DecodePlan, plan_decode

__all__ = ["DecodePlan", "decode_segment", "plan_decode"]
