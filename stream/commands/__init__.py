"""The commands that have more than a few lines, a module for each; :mod:`stream.cli` puts them together."""
