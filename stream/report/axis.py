"""The time line of a work folder: its videos laid end to end, and the frames that were looked at in each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from stream.batches import Array
from stream.report.data import VideoInfo
from stream.report.record import number, records, text
from stream.report.select import frame_steps
from stream.tables import CropTable
from stream.workdir import WorkFolder


@dataclass(frozen=True)
class Axis:
    """Videos in their order, and the sampled frames of each."""

    videos: list[VideoInfo]
    place: dict[str, int]  # video name -> position in videos
    times: dict[str, Array]  # video name -> (K,) ascending seconds of sampled frames
    held: int | None

    @classmethod
    def of(cls, folder: WorkFolder, crops: CropTable, record: Mapping[str, object]) -> Axis:
        tables = folder.frames()
        listed = {text(v.get("name")): v for v in records(record.get("videos")) if v.get("name")}
        present = dict.fromkeys(str(v) for v in crops.video)
        videos, times = [], {}
        offset = 0.0
        for name in dict.fromkeys([*listed, *tables, *present]):
            about = listed.get(name, {})
            own = crops.time_s[crops.video == name]
            sampled = tables[name].times if name in tables else own
            times[name] = np.unique(np.concatenate([sampled, own]))
            steps = frame_steps(times[name])
            told = number(about.get("duration_s")) or 0.0
            last = float(times[name][-1] + (0.0 if told > 0 else steps[-1])) if len(steps) else 0.0
            duration = max(told, last, 1e-3)
            rate = number(about.get("frame_rate"))
            videos.append(
                VideoInfo(
                    name=name,
                    uri=text(about.get("uri")),
                    duration_s=duration,
                    offset_s=offset,
                    width=_int(about.get("width")),
                    height=_int(about.get("height")),
                    frame_rate=rate if rate and rate > 0 else None,
                    codec=text(about.get("codec")),
                    still=about.get("kind") == "images",
                    frames=len(sampled) if name in tables else _int(about.get("frames")),
                    crops=len(own),
                )
            )
            offset += duration
        held = sum(int(t.held.sum()) for t in tables.values()) if tables else None
        return cls(videos, {v.name: i for i, v in enumerate(videos)}, times, held)

    def when(self, crops: CropTable) -> Array:
        """(M,) seconds on the time line of all videos laid end to end."""
        offsets = np.array([self.videos[self.place[str(v)]].offset_s for v in crops.video], np.float64)
        return crops.time_s + offsets


def _int(value: object) -> int | None:
    found = number(value)
    return None if found is None else int(found)
