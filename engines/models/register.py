"""``python -m engines.models.register FILE --kind detector``: put a trained network into the manifest."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from engines.models import DEFAULTS, MANIFEST, register
from engines.runtime.base import EngineError


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and register; 0, or 2 with the reason on stderr."""
    parser = argparse.ArgumentParser(prog="python -m engines.models.register", description=__doc__)
    parser.add_argument("file", type=Path, help="the ONNX file; copied beside the manifest if elsewhere")
    parser.add_argument("--kind", required=True, choices=sorted(DEFAULTS))
    parser.add_argument("--name", help="name in the manifest (default: the file's own)")
    parser.add_argument("--licence", default="Apache-2.0", help="SPDX name (default: %(default)s)")
    parser.add_argument("--input", default="", help='what it takes, as "RGB 0..1, (N, 3, 192, 320)"')
    parser.add_argument("--figures", default="{}", help='YAML or JSON mapping, as "{ap50_bbb: 0.33}"')
    parser.add_argument("--manifest", type=Path, default=MANIFEST, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    try:
        figures = yaml.safe_load(given.figures) or {}
        if not isinstance(figures, dict):
            raise EngineError(f"--figures {given.figures}: expected a mapping")
        model = register(
            given.file,
            given.kind,
            given.name or given.file.stem,
            given.licence,
            given.input,
            figures,
            manifest=given.manifest,
        )
    except (EngineError, yaml.YAMLError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{model.name}: {model.path.name}, sha256 {model.sha256}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
