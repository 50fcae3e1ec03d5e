"""What is kept of built engines and converted networks, and what of it is still of use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from engines.runtime.cache import Cache, Damaged, Entry, cache_folder
from engines.runtime.precision import outdated
from engines.runtime.tensorrt import stale

_NOT_WANTED = "celstream engines list --prune deletes it"


def kept(*, prune: bool = False) -> dict[str, Any]:
    """Everything in the cache, for JSON: ``folder``, ``engines``, ``networks``, ``damaged``, ``deleted``.

    An engine is there once per network, precision, shapes, version and device. A network is there once per
    precision: of int8 there are two files, for the CPU and the GPU, which make one row. ``stale`` says why
    something will not be used here again, and is empty where it may be.

    Args:
        prune: delete what is stale or damaged; ``deleted`` counts it.
    """
    plans, networks = Cache("engines"), Cache("networks")
    doomed: list[tuple[Cache, Entry | Damaged]] = []
    engines: list[dict[str, Any]] = []
    for entry in plans.entries():
        why = stale(entry.about)
        engines.append(_engine(entry, why))
        if why:
            doomed.append((plans, entry))
    converted: dict[tuple[str, ...], list[Entry]] = {}
    for entry in networks.entries():
        why = outdated(entry.about)
        key = entry.about.get("key", {})
        converted.setdefault((str(key.get("model")), str(key.get("precision")), why), []).append(entry)
        if why:
            doomed.append((networks, entry))
    damaged: list[dict[str, Any]] = []
    for kind, cache in (("engine", plans), ("network", networks)):
        for broken in cache.damaged():
            damaged.append(_damaged(kind, broken))
            doomed.append((cache, broken))
    rows = [_network(entries, why) for (_, _, why), entries in converted.items()]
    if prune:
        for cache, gone in doomed:
            cache.remove(gone)
        engines = [row for row in engines if not row["stale"]]
        rows = [row for row in rows if not row["stale"]]
        damaged = []
    return {
        "folder": str(cache_folder()),
        "engines": engines,
        "networks": rows,
        "damaged": damaged,
        "deleted": len(doomed) if prune else 0,
    }


def _engine(entry: Entry, why: str) -> dict[str, Any]:
    about = entry.about
    facts = {key: about.get(key) for key in ("name", "precision", "engine", "device", "shapes", "made")}
    return facts | {"bytes": entry.size, "stale": why, "path": str(entry.path)}


def _network(entries: list[Entry], why: str) -> dict[str, Any]:
    """One row of the files of a network in a precision."""
    newest = entries[0].about
    origins = [entry.about["origin"] for entry in entries if entry.about.get("origin")]
    return {
        "name": newest.get("name"),
        "precision": newest.get("precision"),
        "origin": origins[0] if origins else None,
        "made": newest.get("made"),
        "bytes": sum(entry.size for entry in entries),
        "stale": why,
        "paths": [str(entry.path) for entry in entries],
    }


def _damaged(kind: str, broken: Damaged) -> dict[str, Any]:
    about = broken.about
    facts = {"kind": kind, "name": about.get("name"), "precision": about.get("precision")}
    return facts | {"why": broken.why, "path": str(broken.path)}


def told(found: Mapping[str, Any]) -> Iterable[str]:
    """What :func:`kept` found, in lines for people: one for each thing."""
    engines, networks, damaged = found["engines"], found["networks"], found["damaged"]
    yield (
        f"Kept in {found['folder']}: {_count(len(engines), 'engine')},"
        f" {_count(len(networks), 'converted network')}"
        + (f", {len(damaged)} damaged" if damaged else "")
        + (f"; {found['deleted']} deleted" if found["deleted"] else "")
    )
    for row in engines:
        yield (
            f"{row['name']}, {row['precision']}, {'; '.join(row['shapes'] or ())}, {row['engine']},"
            f" {row['device']}, {row['bytes'] / 1e6:.1f} MB, {row['made']}, {_state(row['stale'])}"
        )
    for row in networks:
        origin = f", calibrated on {row['origin']}" if row["origin"] else ""
        yield (
            f"{row['name']}.onnx in {row['precision']}{origin}, {row['bytes'] / 1e6:.1f} MB, {row['made']},"
            f" {_state(row['stale'])}"
        )
    for row in damaged:
        name = f"{row['name']}, {row['precision']}" if row["name"] else row["path"]
        yield (
            f"{name}: {row['kind']}, damaged: {row['why']}; celstream engines build makes it again,"
            f" {_NOT_WANTED}"
        )


def _state(stale: str) -> str:
    return f"not used: {stale}; {_NOT_WANTED}" if stale else "ready"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
