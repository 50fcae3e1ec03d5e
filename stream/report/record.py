"""What ``run.yaml`` says, as far as it says it: every key may be missing or of the wrong kind."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import yaml

from stream.config import Config
from stream.report.data import Fallback, Model, Quarantined, ReportData, SettingLine, Station

_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)


def number(value: object) -> float | None:
    """A finite number, or None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def text(value: object) -> str:
    """The value as text; None and containers are empty."""
    return "" if value is None or isinstance(value, Mapping | list | tuple) else str(value)


def records(value: object) -> list[Mapping[str, Any]]:
    """The mappings in a list, or none."""
    return [v for v in value if isinstance(v, Mapping)] if isinstance(value, list | tuple) else []


def from_record(record: Mapping[str, Any]) -> ReportData:
    """The part of the report that ``run.yaml`` alone decides."""
    config = dict(mapping(record.get("config")))
    if "clustering" in record:  # clustered again since the run, with other settings
        config["cluster"] = mapping(record.get("clustering"))
    wanted = mapping(config.get("cluster")).get("clusters")
    if isinstance(wanted, list | tuple) and len(wanted) == 2:
        wanted = f"{wanted[0]}:{wanted[1]}"
    return ReportData(
        folder="",
        version=text(record.get("version")),
        started=_date(record.get("started")),
        seconds=number(record.get("seconds")),
        device=_device(record.get("device")),
        times_real_time=number(record.get("times_real_time")),
        peak_rss_bytes=count_of(record.get("peak_rss_bytes")),
        interval_s=number(config.get("interval")),
        sampling=text(config.get("sampling")),
        frames=count_of(record.get("frames")),
        detections=count_of(record.get("detections")),
        wanted_clusters=text(wanted),
        smallest_shown=count_of(mapping(config.get("cluster")).get("min_size")) or 1,
        segments=count_of(record.get("segments")),
        segments_done_before=count_of(record.get("segments_done_before")),
        interrupted=record.get("interrupted") is True,
        stations=_stations(record.get("stations")),
        models=_models(record.get("models")),
        quarantined=tuple(
            Quarantined(text(q.get("uri")), text(q.get("reason"))) for q in records(record.get("quarantined"))
        ),
        fallbacks=tuple(
            Fallback(text(f.get("wanted")), text(f.get("used")), text(f.get("reason")))
            for f in records(record.get("fallbacks"))
        ),
        notes=_notes(record.get("notes")),
        settings=settings(config),
    )


def settings(config: Mapping[str, Any]) -> tuple[SettingLine, ...]:
    """The configuration as lines of YAML, those that differ from the defaults marked."""
    return tuple(_lines(config, Config().model_dump(mode="json"), 0))


def _lines(values: Mapping[str, Any], defaults: Mapping[str, Any], depth: int) -> list[SettingLine]:
    found = []
    pad = "  " * depth
    for key, value in values.items():
        default = defaults.get(key)
        if isinstance(value, Mapping) and value:
            found.append(SettingLine(f"{pad}{key}:", False))
            found += _lines(value, mapping(default), depth + 1)
        else:
            value = list(value) if isinstance(value, tuple) else value
            line = f"{key}: " + _flow(value)
            changed = key not in defaults or value != default
            found.append(SettingLine(pad + line, changed))
    return found


def _flow(value: object) -> str:
    """One line of YAML."""
    dumped = yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True)
    return dumped.removesuffix("...\n").strip()


def _stations(value: object) -> tuple[Station, ...]:
    found = []
    for name, about in mapping(value).items():
        seconds = number(mapping(about).get("seconds"))
        if seconds is not None and seconds >= 0:
            items, batches = (count_of(mapping(about).get(k)) for k in ("items", "batches"))
            found.append(Station(str(name), seconds, items, batches))
    return tuple(found)


def _models(value: object) -> tuple[Model, ...]:
    found = []
    for role, about in mapping(value).items():
        if isinstance(about, Mapping):
            path = text(about.get("path")) or text(about.get("model"))
            name = text(about.get("engine")) or PurePath(path).name
            found.append(Model(str(role), name, text(about.get("sha256"))))
        elif about is not None:
            found.append(Model(str(role), PurePath(text(about)).name, ""))
    return tuple(found)


def _notes(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    items = value if isinstance(value, list | tuple) else []
    found = []
    for item in items:
        if isinstance(item, Mapping):
            found.append("; ".join(f"{k}: {v}" for k, v in item.items() if v is not None))
        elif item is not None:
            found.append(str(item))
    return tuple(note for note in found if note)


def _device(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(str(v) for v in value.values() if v)
    return text(value)


def _date(value: object) -> str:
    """As people read it: "21 November 2026, 07:12 UTC". Text that is no date is shown as it is."""
    when: datetime.datetime | None = value if isinstance(value, datetime.datetime) else None
    if when is None and (seconds := number(value)) is not None and 0 < seconds < 2**33:
        when = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    if when is None:
        try:
            when = datetime.datetime.fromisoformat(text(value))
        except ValueError:
            return text(value)
    month = _MONTHS[when.month - 1]
    zone = f" {when.tzname()}" if when.tzname() else ""
    return f"{when.day} {month} {when.year}, {when:%H:%M}{zone}"


def mapping(value: object) -> Mapping[str, Any]:
    """The value, or an empty mapping for anything else."""
    return value if isinstance(value, Mapping) else {}


def count_of(value: object) -> int | None:
    """A whole number, or None for what is no number."""
    found = number(value)
    return None if found is None else int(found)
