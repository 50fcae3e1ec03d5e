"""The version, in one place for those who record it."""

VERSION = "0.1.0"
