"""Numbers, times and sizes as people read them, and text made safe for HTML."""

from __future__ import annotations

import base64
import html


def esc(value: object) -> str:
    """Text that is safe between tags and inside quoted attributes; characters HTML forbids become U+FFFD."""
    clean = "".join(c if c >= " " or c in "\t\n" else "\ufffd" for c in str(value))
    return html.escape(clean, quote=True)


def clock(seconds: float) -> str:
    """``754.2`` -> ``12:34``; from an hour on ``1:02:03``."""
    whole = int(max(0.0, seconds))
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def lasting(seconds: float) -> str:
    """A length of time in words: ``8.3 s``, ``45 s``, ``9 min 56 s``, ``3 h 20 min``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole % 60 else f"{whole // 60} min"
    return f"{whole // 3600:,} h {whole // 60 % 60} min"


def count(value: float, one: str = "", many: str = "") -> str:
    """``1234`` -> ``1,234``; with words ``1 crop``, ``12 crops``."""
    figure = f"{value:,.0f}"
    return f"{figure} {one if figure == '1' else many or one + 's'}" if one else figure


def rate(value: float) -> str:
    """A rate with three digits that matter: ``0.52``, ``41.3``, ``1,310``."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def size(bytes_: float) -> str:
    """``1.2 GiB``, ``640 MiB``."""
    return f"{bytes_ / 2**30:.1f} GiB" if bytes_ >= 2**30 else f"{bytes_ / 2**20:.0f} MiB"


def data_uri(jpeg: bytes) -> str:
    """The picture as an address that needs no network."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")
