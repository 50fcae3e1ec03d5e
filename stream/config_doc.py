"""The default config as a documented YAML file: ``python -m stream.config_doc > configs/animation.yaml``."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

import yaml
from pydantic import BaseModel

from stream.config import Config

HEADER = """\
# The defaults, for animation. Copy the file, keep the keys you change, and give it with --config;
# or change single keys with --set key=value (nested ones with a dot: --set detector.score=0.4).
# An unknown key is an error. Made by `python -m stream.config_doc`.
"""


def documented_yaml(config: BaseModel) -> str:
    """Every key with its value, under a comment that says what it is and what raising it does."""
    return HEADER + "\n".join(_lines(config, "")) + "\n"


def _lines(config: BaseModel, indent: str) -> Iterator[str]:
    for name, info in type(config).model_fields.items():
        value = getattr(config, name)
        about = info.description or (type(value).__doc__ if isinstance(value, BaseModel) else "") or ""
        yield ""
        for line in textwrap.wrap(" ".join(about.split()), 100 - len(indent)):
            yield f"{indent}# {line}"
        if isinstance(value, BaseModel):
            yield f"{indent}{name}:"
            yield from _lines(value, indent + "  ")
        else:
            dumped = yaml.safe_dump(config.model_dump(mode="json")[name], default_flow_style=True)
            yield f"{indent}{name}: {dumped.removesuffix('...' + chr(10)).strip()}"


if __name__ == "__main__":
    print(documented_yaml(Config()), end="")
