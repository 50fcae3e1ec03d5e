"""Films for benchmarks: a source enlarged to 1080p in a codec of one's choice, and one joined to itself."""

from __future__ import annotations

from pathlib import Path

import av

ENCODERS = {
    "h264": ("libx264", {"preset": "fast", "crf": "20"}),
    "hevc": ("libx265", {"preset": "ultrafast"}),
}


def enlarge(
    source: Path, out: Path, seconds: float, *, codec: str = "h264", height: int = 1080, gop: int = 250
) -> None:
    """Re-encode the first ``seconds`` at 16:9, as a broadcaster's archive has it.

    Args:
        gop: frames between keyframes at most; raising it makes seeking slower.
    """
    encoder, options = ENCODERS[codec]
    width = height * 16 // 9 // 2 * 2
    with av.open(str(source)) as film, av.open(str(out), "w") as container:
        stream = container.add_stream(encoder, rate=film.streams.video[0].average_rate)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = options | {"g": str(gop)}
        if codec == "hevc":
            stream.options |= {"x265-params": f"log-level=none:keyint={gop}"}
        for frame in film.decode(video=0):
            if frame.time >= seconds:
                break
            scaled = frame.reformat(width, height)
            scaled.pts, scaled.time_base = frame.pts, frame.time_base
            container.mux(stream.encode(scaled))
        container.mux(stream.encode(None))


def repeat(source: Path, out: Path, times: int) -> None:
    """Join ``source`` to itself without re-encoding; times go on where the last copy ended."""
    with av.open(str(out), "w") as container:
        stream = None
        offset = 0
        for _ in range(times):
            with av.open(str(source)) as film:
                video = film.streams.video[0]
                if stream is None:
                    stream = container.add_stream_from_template(video)
                end = 0
                for packet in film.demux(video):
                    if packet.dts is None:
                        continue
                    end = max(end, packet.pts + packet.duration)
                    packet.pts += offset
                    packet.dts += offset
                    packet.stream = stream
                    container.mux(packet)
                offset += end
