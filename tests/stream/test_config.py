from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from stream.config import Config, load_config
from stream.config_doc import documented_yaml
from stream.errors import ConfigError

CONFIGS = Path(__file__).parents[2] / "configs"


def test_the_packaged_default_is_the_default_and_documents_every_key() -> None:
    text = (CONFIGS / "animation.yaml").read_text()
    assert text == documented_yaml(Config()), "run: python -m stream.config_doc > configs/animation.yaml"
    assert load_config("animation") == Config()


def test_every_key_has_a_description() -> None:
    for model in (
        Config,
        *(type(getattr(Config(), n)) for n in ("detector", "crops", "embedder", "tracks", "adapt")),
    ):
        for name, info in model.model_fields.items():
            is_section = isinstance(getattr(model(), name), BaseModel)
            assert is_section or info.description, f"{model.__name__}.{name}"


def test_later_sources_win(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump({"interval": 2, "detector": {"score": 0.5, "iou": 0.4}}))
    config = load_config(file, ["detector.score=0.6", "segment_seconds=20"], {"interval": 3})
    assert (config.interval, config.detector.score, config.detector.iou) == (3, 0.6, 0.4)
    assert config.segment_seconds == 20


@pytest.mark.parametrize(("text", "wanted"), [("5:40", (5, 40)), ("12", (12, 12)), ("[3, 4]", (3, 4))])
def test_cluster_ranges(text: str, wanted: tuple[int, int]) -> None:
    assert load_config(assignments=[f"cluster.clusters={text}"]).cluster.clusters == wanted


@pytest.mark.parametrize(
    ("assignment", "says"),
    [
        ("intervall=2", "did you mean 'interval'?"),
        ("detector.scor=2", "did you mean 'detector.score'?"),
        ("xyzzy=1", "configs/animation.yaml lists the keys, `python -m stream.config_doc` prints it"),
        ("interval=0", "interval: input should be greater than 0, got 0"),
        ("interval=-1", "greater than 0, got -1"),
        ("interval=soon", "got 'soon'"),
        ("cluster.clusters=40:5", "expected 1 <= min <= max, got 40:5"),
        ("cluster.clusters=0:5", "expected 1 <= min <= max, got 0:5"),
        ("cluster.strength=1.5", "less than or equal to 1"),
        ("device=gpu", "'auto', 'cpu' or 'cuda'"),
        ("interval", "expected key=value"),
    ],
)
def test_bad_settings_say_what_to_do(assignment: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(assignments=[assignment])
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [("- a list", "expected a mapping"), ("a: [", "not valid YAML"), (None, "cannot be read")],
)
def test_bad_files_are_named(tmp_path: Path, text: str | None, says: str) -> None:
    file = tmp_path / "mine.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ConfigError, match=str(file)) as caught:
        load_config(file)
    assert says in str(caught.value)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="animation"):
        load_config("cartoons")


@pytest.mark.parametrize("word", ["auto", "on", "off"])
def test_adapt_is_short_for_its_mode(word: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(f"adapt: {word}\n")  # YAML reads on and off as true and false
    for config in (
        load_config(tmp_path / "mine.yaml"),
        load_config(assignments=[f"adapt={word}"]),
        load_config(assignments=[f"adapt.mode={word}"]),
        load_config(values={"adapt": {"mode": word}}),
    ):
        assert config.adapt.mode == word
    with pytest.raises(ConfigError, match=r"adapt\.mode: input should be 'auto', 'on' or 'off'"):
        load_config(assignments=["adapt=maybe"])


def test_every_packaged_config_is_one_and_says_what_its_name_says() -> None:
    names = sorted(path.stem for path in CONFIGS.glob("*.yaml"))
    assert names == ["animation", "gpu"]
    for name in names:
        load_config(name)
    gpu = load_config("gpu")
    assert (gpu.device, gpu.detector.precision, gpu.adapt.mode) == ("cuda", "fp16", "off")
    assert "#" in (CONFIGS / "gpu.yaml").read_text()
