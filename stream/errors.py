"""The errors a person can act on, each with the exit code it leads to.

A message names the thing, what was expected, what was found, and what to do.
"""

from __future__ import annotations

EXIT_DONE = 0
EXIT_DEFECT = 1
EXIT_USAGE = 2
EXIT_QUARANTINED = 3
EXIT_INTERRUPTED = 130  # what a shell expects after Ctrl-C


class CelstreamError(Exception):
    """Base of every error that is not a defect of ours; the command line prints it as one line."""

    exit_code = EXIT_USAGE


class ConfigError(CelstreamError):
    """A setting is unknown, of the wrong kind, or out of its range."""


class SourceError(CelstreamError):
    """A video or image cannot be used. The run quarantines it with this message and goes on."""

    exit_code = EXIT_QUARANTINED


class ModelError(CelstreamError):
    """An ONNX file is missing, unreadable, or not the kind of network that was asked for."""


class WorkdirError(CelstreamError):
    """A work folder belongs to something else, to another version, or cannot be written."""


class DependencyError(CelstreamError):
    """A package that this step needs is not installed; the message names the pip command."""
