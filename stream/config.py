"""Every setting, its default, and what raising it does. YAML files, ``--set a.b=c`` and the API share it.

Settings are strict: an unknown key is an error that names the nearest right one.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from stream.errors import ConfigError


def _parse_range(value: Any) -> Any:
    """``"5:40"`` -> ``(5, 40)``; ``"12"`` -> ``(12, 12)``; anything else is left to pydantic."""
    if isinstance(value, int) and not isinstance(value, bool):
        return (value, value)
    if isinstance(value, str) and (found := re.fullmatch(r"\s*(\d+)\s*(?::\s*(\d+)\s*)?", value)):
        low = int(found[1])
        return (low, int(found[2]) if found[2] else low)
    if isinstance(value, str):
        raise ValueError("expected MIN:MAX, for example 5:40")
    return value


ClusterRange = Annotated[tuple[int, int], BeforeValidator(_parse_range)]


class _Strict(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, use_attribute_docstrings=True
    )


class DecodeConfig(_Strict):
    """Decoding: by what, how many segments at once, and how much of the device it may fill with frames."""

    decoder: Literal["auto", "cpu", "nvdec", "dali"] = "auto"
    """'auto' takes NVDEC where frames go to a GPU and it decodes the file, else the CPU, and says why. The
    others force one; where that cannot be, the run says what is missing. 'dali' without a GPU decodes on the
    CPU."""
    lanes: int | None = Field(None, ge=1, le=64)
    """Segments decoded at once. None: one on the CPU, and on a GPU one more than it has video decoders.
    Raising it fills more decoders and takes memory for each."""
    memory_share: float = Field(0.4, gt=0, le=0.9)
    """Share of the memory free at the start that decoded frames may fill, on a GPU or with several lanes.
    Raising it lets decoding run further ahead of what follows it."""
    patience_s: float = Field(60.0, gt=0, allow_inf_nan=False)
    """Seconds without a frame after which a decoder other than the CPU's counts as hung, and the segment is
    done on the CPU. Raising it is kinder to slow disks."""


class DetectorConfig(_Strict):
    """Finding characters in frames."""

    model: str = "default"
    """'default', or the path of a YOLO, YOLOX or boxes/labels/scores ONNX file."""
    precision: Literal["auto", "fp32", "fp16", "int8"] = "auto"
    """Numbers that the network computes with; 'auto' is fp16 on a GPU and fp32 on a CPU. Lowering it is
    faster on a GPU and less exact; int8 is faster on a CPU, too, and needs `celstream engines build
    --precision int8` once."""
    size: int | None = Field(None, ge=32, le=8192)
    """Longer side of the network's input in pixels, where the network leaves it free; None takes the size it
    was trained at. Raising it finds smaller characters and is slower."""
    scales: tuple[Annotated[float, Field(ge=0.25, le=4)], ...] | None = Field(
        None, min_length=1, max_length=8
    )
    """How often and how large every frame is looked at, in parts of that size; what the looks find is joined.
    None takes what the network's file recommends (metadata 'scales'), else [1]. Each look costs time with
    the square of its scale; small ones see large characters better, and large ones small ones."""
    mirror: bool | None = None
    """Whether every second look is at the mirror image: looks that differ more err less often together, at
    the same cost. None takes what the network's file recommends (metadata 'mirror'), else false."""
    score: float | None = Field(None, ge=0, le=1)
    """Smallest score kept; None takes what the network's file recommends (metadata 'score'), else 0.25.
    Raising it gives fewer, surer boxes."""
    iou: float = Field(0.52, gt=0, le=1)
    """Boxes of one class overlapping more than this are one. Raising it keeps more overlapping boxes."""
    max_per_frame: int = Field(50, ge=1)
    """Boxes kept per frame, best first. Raising it admits crowds."""
    classes: tuple[str, ...] = ()
    """Class names to keep; empty keeps all of them but 'face'. A detector that does not know a name is an
    error."""


class CropConfig(_Strict):
    """Cutting characters out of frames."""

    margin: float = Field(0.08, ge=0, le=2)
    """Context around the box, as a share of its sides. Raising it shows more background."""
    min_size: int = Field(24, ge=1)
    """Smallest shorter side of a box, in pixels of the frame. Raising it drops small, distant
    characters."""
    min_sharpness: float = Field(0.0, ge=0)
    """Smallest sharpness (variance of the Laplacian of the normalized crop, 0..255 luma). Raising it drops
    blurred crops."""
    fit: Literal["pad", "stretch", "square"] = "pad"
    """How a box becomes the embedder's square: 'pad' keeps the aspect on grey, 'stretch' fills the square,
    'square' takes in more of the frame."""
    jpeg_size: int = Field(256, ge=16, le=4096)
    """Longest side of the stored picture, in pixels (never enlarged). Raising it keeps more detail and
    takes more disk."""
    jpeg_quality: int = Field(90, ge=1, le=100)
    """JPEG quality. Raising it gives larger files with fewer artefacts."""


class EmbedderConfig(_Strict):
    """Turning crops into vectors."""

    model: str = "default"
    """'default', 'gist' (hand-made, a baseline), or the path of any (N,3,H,W) -> (N,D) ONNX file."""
    precision: Literal["auto", "fp32", "fp16", "int8"] = "auto"
    """As for the detector."""
    mirror: bool = True
    """Add the embedding of the mirrored crop: better clusters, twice the work."""
    batch_size: int = Field(32, ge=1)
    """Crops per network call. Raising it helps a GPU and takes memory."""


class TrackConfig(_Strict):
    """Joining crops of one character in neighbouring frames of one shot."""

    max_gap_s: float = Field(2.5, ge=0)
    """Longest time a track may go unseen. Raising it joins more, and joins more wrongly."""
    min_iou: float = Field(0.2, ge=0, le=1)
    """Overlap at which position alone may join. Raising it makes shorter tracks."""
    min_similarity: float = Field(0.7, ge=-1, le=1)
    """Cosine similarity that a join needs at least. Raising it makes shorter, purer tracks."""


class ClusterConfig(_Strict):
    """Affinity propagation over tracks."""

    clusters: ClusterRange | None = None
    """Wanted number of clusters as MIN:MAX; the strength is searched until it fits. None: a range derived
    from the data (see stream/clustering.py)."""
    strength: float | None = Field(None, ge=0, le=1)
    """Fixed cluster determination strength, no search. Raising it gives more, purer clusters; 0 gives one,
    1 one per point."""
    damping: float = Field(0.9, ge=0.5, lt=1)
    """Share of the old message kept per iteration. Raising it is slower and oscillates less."""
    max_iter: int = Field(1000, ge=1)
    """Iterations at most. Raising it lets hard cases converge."""
    convergence_iter: int = Field(20, ge=1)
    """Iterations that the exemplars must hold still. Raising it is surer and slower."""
    memory_mb: float | None = Field(None, gt=0)
    """Memory for the matrices of the clustering, in MiB. None: half of what is free, 96 at most, so that a
    long film takes no more than a short one. Raising it clusters more points at once in place of in two
    levels, which is more exact and takes longer."""
    min_size: int = Field(1, ge=1)
    """Smallest cluster shown in the report, in crops. Raising it hides stray detections."""

    @model_validator(mode="after")
    def _consistent(self) -> ClusterConfig:
        if self.clusters is not None and self.strength is not None:
            raise ValueError(
                "clusters and strength: give one of them; a range is reached by searching the strength"
            )
        if self.clusters is not None:
            low, high = self.clusters
            if not 1 <= low <= high:
                raise ValueError(
                    f"clusters: expected 1 <= min <= max, got {low}:{high}; write for example 5:40"
                )
        return self


def _adapt_mode(value: Any) -> Any:
    """YAML reads a bare ``on`` or ``off`` as a truth value."""
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


class AdaptConfig(_Strict):
    """Adapting the embedding to the show after its last segment, without labels; `adapt: off` is short for
    `mode: off`."""

    mode: Annotated[Literal["auto", "on", "off"], BeforeValidator(_adapt_mode)] = "auto"
    """'auto' adapts the default embedder where there are enough crops and torch is installed, once for the
    same segments; 'on' adapts also when the embedder is yours, and says so when it cannot; 'off' never does.
    Embeddings of an earlier adaptation stay in use while they are of these segments."""
    min_crops: int = Field(300, ge=2)
    """Different crops below which it is not done. Raising it leaves small folders as they are."""
    minutes: float = Field(3.0, gt=0, allow_inf_nan=False)
    """Longest time it takes, about. Raising it learns more of a large show."""
    steps: int | None = Field(None, ge=1)
    """Training steps; None takes what the minutes stand for, which otherwise are the clock alone. Raising it
    learns more and takes longer."""
    seed: int = Field(0, ge=0)
    """Another seed is another order of the crops and other views of them."""


def _short_adapt(value: Any) -> Any:
    """``adapt: off`` -> ``adapt: {mode: off}``."""
    return {"mode": value} if isinstance(value, str | bool) else value


class Config(_Strict):
    """One run. Every key can be given in YAML, as ``--set key=value``, and to :func:`stream.run`."""

    interval: float = Field(1.0, gt=0, allow_inf_nan=False)
    """Seconds between sampled frames. Raising it is faster and sees less."""
    sampling: Literal["interval", "keyframes", "scene"] = "interval"
    """'interval': a frame every interval; 'keyframes': the file's own keyframes, fastest; 'scene':
    interval, plus the first frame of every shot."""
    segment_seconds: float = Field(300.0, gt=0, allow_inf_nan=False)
    """Length of the unit of work and resume, cut at keyframes. Raising it makes fewer, larger files and
    loses more on a kill."""
    batch_size: int = Field(16, ge=1)
    """Frames per batch. Raising it helps a GPU and takes memory: frames x width x height x 3 bytes, a few
    times."""
    queue_size: int = Field(2, ge=1)
    """Batches that may wait between two stations. Raising it smooths and takes memory."""
    trace: str | None = None
    """File to write what each station did when to, for Perfetto or chrome://tracing."""
    threads: int = Field(0, ge=0)
    """CPU threads for decoding and networks; 0 takes all cores."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """'auto' takes a GPU where there is one and says why if not; 'cuda' makes its absence an error."""
    engine: Literal["auto", "tensorrt", "onnx", "torch"] = "auto"
    """What runs the networks. 'auto' takes the first of TensorRT, ONNX Runtime and torch that works on the
    GPU, and ONNX Runtime on the CPU; a named one that is not there is said and replaced, with device 'cuda'
    an error."""
    held: float = Field(2.0, ge=0, le=255)
    """Largest change (0..255 luma, of any small block) at which a frame counts as the one before, held.
    Raising it skips more frames; 0 turns it off."""
    shot: float = Field(0.35, gt=0, le=1)
    """Change between frames (0..1) that counts as a cut. Raising it finds fewer shots."""
    boxes: str | None = None
    """CSV of given boxes, used in place of the detector (the format is in stream/labels.py)."""
    decode: DecodeConfig = DecodeConfig()
    detector: DetectorConfig = DetectorConfig()
    crops: CropConfig = CropConfig()
    embedder: EmbedderConfig = EmbedderConfig()
    tracks: TrackConfig = TrackConfig()
    adapt: Annotated[AdaptConfig, BeforeValidator(_short_adapt)] = AdaptConfig()
    cluster: ClusterConfig = ClusterConfig()


def _keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    names = []
    for name, info in model.model_fields.items():
        names.append(prefix + name)
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            names += _keys(info.annotation, f"{prefix}{name}.")
    return names


def _explain(error: ValidationError, origin: str) -> ConfigError:
    lines = []
    for item in error.errors():
        path = ".".join(
            str(part) for part in item["loc"] if not str(part).startswith(("function-", "tuple["))
        )
        if item["type"] == "extra_forbidden":
            near = difflib.get_close_matches(path, _keys(Config), n=1, cutoff=0.6)
            listed = "; configs/animation.yaml lists the keys, `python -m stream.config_doc` prints it"
            hint = f"; did you mean {near[0]!r}?" if near else listed
            lines.append(f"unknown config key {path!r}{hint}")
        else:
            message = item["msg"].removeprefix("Value error, ")
            found = "" if isinstance(item["input"], dict) else f", got {item['input']!r}"
            lines.append(f"{path}: {message[:1].lower()}{message[1:]}{found}")
    return ConfigError(f"{origin}: " + "; ".join(lines))


def _merge(base: dict[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    for key, value in extra.items():
        if isinstance(value, Mapping) and isinstance(base.get(key), dict):
            _merge(base[key], value)
        else:
            base[key] = dict(value) if isinstance(value, Mapping) else value
    return base


def _nested(assignment: str) -> dict[str, Any]:
    key, equals, text = assignment.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {assignment}: expected key=value, for example --set detector.score=0.4")
    # YAML reads 5:40 as a sexagesimal number, and a range is what is meant
    value: Any = text if re.fullmatch(r"\d+:\d+", text.strip()) else yaml.safe_load(text)
    for part in reversed(key.strip().split(".")):
        value = {part: value}
    return value


def assigned(assignments: Iterable[str]) -> dict[str, Any]:
    """``"a.b=c"`` strings as a nested mapping, not checked; later ones win."""
    found: dict[str, Any] = {}
    for assignment in assignments:
        _merge(found, _nested(assignment))
    return found


def _named_file(name: str) -> Path:
    """A path, or the bare name of a file in ``configs/``."""
    path = Path(name)
    if not path.exists() and not path.suffix and len(path.parts) == 1:
        packaged = Path(__file__).parents[1] / "configs" / f"{name}.yaml"
        if packaged.exists():
            return packaged
        known = ", ".join(sorted(p.stem for p in packaged.parent.glob("*.yaml")))
        raise ConfigError(f"--config {name}: no such file, and no such name; the names are {known}")
    return path


def load_config(
    file: str | Path | None = None,
    assignments: Iterable[str] = (),
    values: Mapping[str, Any] | None = None,
) -> Config:
    """Build a :class:`Config`; later sources win: defaults, ``file``, ``values``, ``assignments``.

    Args:
        file: YAML file, or the name of one in ``configs/`` ("animation").
        assignments: ``"a.b=c"`` strings, the value in YAML.
        values: nested mapping, None values are left out at the top level.

    Raises:
        ConfigError: unreadable file, unknown key (with the nearest right one), value out of range.
    """
    raw: dict[str, Any] = {}
    origin = "config"
    if file is not None:
        path = _named_file(str(file))
        origin = str(path)
        try:
            loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(
                f"{path}: cannot be read ({error.strerror}); give the path of a YAML file"
            ) from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
        if loaded is not None and not isinstance(loaded, dict):
            raise ConfigError(f"{path}: expected a mapping of settings, got {type(loaded).__name__}")
        _merge(raw, loaded or {})
    _merge(raw, {k: v for k, v in (values or {}).items() if v is not None})
    _merge(raw, assigned(assignments))
    try:
        return Config.model_validate(raw)
    except ValidationError as error:
        raise _explain(error, origin) from error
