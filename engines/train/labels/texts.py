"""Reading label files that strangers wrote: bounded in size, safe, with the line of what is wrong."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.parsers import expat

import yaml

from engines.train.labels.images import printable

#: Bytes of one label file (one image's text or XML, a list of names) at most.
MAX_BYTES = 16 << 20
#: Characters of one JSON value at most: one annotation with a very fine outline, not a whole file.
MAX_VALUE = 64 << 20
_CHUNK = 1 << 20
_DEPTH = 50
_SPACE = re.compile(r"[ \t\n\r]*")


class Malformed(ValueError):
    """A label file, or a part of one, that is not what it should be. ``where`` is the place in it."""

    def __init__(self, message: str, where: str = "") -> None:
        super().__init__(message)
        self.where = where


def read_text(path: Path) -> str:
    """The file as UTF-8, with or without a byte order mark (``Malformed``: unreadable, too large, other)."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise Malformed(f"is larger than {MAX_BYTES >> 20} MiB, which no such file is")
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Malformed(f"is not UTF-8 (byte {error.start})") from error
    except OSError as error:
        raise Malformed(f"cannot be read ({error.strerror})") from error


def class_name(value: object) -> str:
    """A class name without spaces around it.

    Raises:
        Malformed: no text or number, empty, or more than a line.
    """
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        raise Malformed(f"expected a class name, got {type(value).__name__}")
    name = str(value).strip()
    if not name or not printable(name) or len(name) > 200:
        raise Malformed(f"expected a class name in one line, got {name[:60]!r}")
    return name


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that holds keys and values (``Malformed`` otherwise); no objects are made from it."""
    try:
        found = yaml.safe_load(read_text(path))
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        if isinstance(error, Malformed):
            raise
        mark = getattr(error, "problem_mark", None)
        raise Malformed("is not YAML", f"line {mark.line + 1}" if mark else "") from error
    if not isinstance(found, dict):
        raise Malformed(f"expected keys and values, got {type(found).__name__}")
    return found


class Element:
    """An XML element: its tag, its text, its children, and the line that it begins in."""

    def __init__(self, tag: str, line: int) -> None:
        self.tag, self.line = tag, line
        self.children: list[Element] = []
        self._text: list[str] = []

    @property
    def text(self) -> str:
        """Its own text without spaces around it."""
        return "".join(self._text).strip()

    def all(self, tag: str) -> list[Element]:
        """Its children of this tag."""
        return [child for child in self.children if child.tag == tag]

    def first(self, tag: str) -> Element | None:
        """Its first child of this tag."""
        return next(iter(self.all(tag)), None)

    def word(self, tag: str, default: str = "") -> str:
        """The text of its first child of this tag."""
        child = self.first(tag)
        return default if child is None else child.text


def read_xml(path: Path) -> Element:
    """The root of an XML file.

    A document type declaration is refused, and with it every entity that could grow or read other files.

    Raises:
        Malformed: no XML, too large, too deep, or with a document type declaration.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise Malformed(f"is larger than {MAX_BYTES >> 20} MiB, which no such file is")
        data = path.read_bytes()
    except OSError as error:
        raise Malformed(f"cannot be read ({error.strerror})") from error
    parser = expat.ParserCreate()
    parser.buffer_text = True
    top = Element("", 0)
    stack = [top]

    def begin(tag: str, _attributes: dict[str, str]) -> None:
        if len(stack) > _DEPTH:
            raise Malformed(f"is more than {_DEPTH} levels deep", f"line {parser.CurrentLineNumber}")
        element = Element(tag, parser.CurrentLineNumber)
        stack[-1].children.append(element)
        stack.append(element)

    def refuse(*_: object) -> None:
        where = f"line {parser.CurrentLineNumber}"
        raise Malformed("has a document type declaration, which is refused for safety; take it out", where)

    parser.StartElementHandler = begin
    parser.EndElementHandler = lambda _tag: stack.pop()
    parser.CharacterDataHandler = lambda data: stack[-1]._text.append(data)
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(data, True)
    except (expat.ExpatError, LookupError, ValueError) as error:
        if isinstance(error, Malformed):
            raise
        line = getattr(error, "lineno", None)
        raise Malformed(f"is not XML ({error})", f"line {line}" if line else "") from error
    return top.children[0]


class JsonStream:
    """A JSON object read piece by piece: a list's members come one at a time, so memory stays small."""

    def __init__(self, path: Path) -> None:
        """Raises ``Malformed`` where the file cannot be opened."""
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise Malformed(f"cannot be read ({error.strerror})") from error
        self._decode = codecs.getincrementaldecoder("utf-8-sig")()
        self._json = json.JSONDecoder()
        self._text, self._at, self._line, self._end = "", 0, 1, False

    def __enter__(self) -> JsonStream:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def members(self) -> Iterator[tuple[str, int, Any]]:
        """(key, line, value): once for each member of a list, once for any other value.

        Raises:
            Malformed: not a JSON object, or not JSON from some line on. What came before was good.
        """
        self._expect("{")
        while self._peek() != "}":
            key = self._value()
            if not isinstance(key, str):
                raise Malformed("expected a key", f"line {self._line}")
            self._expect(":")
            if self._peek() == "[":
                self._expect("[")
                while self._peek() != "]":
                    yield key, self._line, self._value()
                    self._comma("]")
                self._expect("]")
            else:
                yield key, self._line, self._value()
            self._comma("}")
        self._expect("}")
        if self._peek():
            raise Malformed("goes on after its end", f"line {self._line}")

    def _more(self) -> bool:
        """Read a piece as long as what waits, at least; what was read past is dropped."""
        if self._end:
            return False
        rest = self._text[self._at :]
        try:
            data = self._file.read(max(_CHUNK, len(rest)))
            self._end = not data
            piece = self._decode.decode(data, final=self._end)
        except UnicodeDecodeError as error:
            raise Malformed("is not UTF-8", f"after line {self._line}") from error
        except OSError as error:
            raise Malformed(f"cannot be read ({error.strerror})") from error
        self._text, self._at = rest + piece, 0
        return True

    def _skip(self, end: int) -> None:
        self._line += self._text.count("\n", self._at, end)
        self._at = end

    def _peek(self) -> str:
        """The next character that is no space, or nothing at the end of the file."""
        while True:
            match = _SPACE.match(self._text, self._at)
            self._skip(match.end() if match else self._at)
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def _expect(self, character: str) -> None:
        found = self._peek()
        if found != character:
            shown = repr(found) if found else "the end of the file"
            raise Malformed(f"is not JSON: expected {character!r}, got {shown}", f"line {self._line}")
        self._skip(self._at + 1)

    def _comma(self, end: str) -> None:
        if self._peek() != end:
            self._expect(",")
            if self._peek() == end:
                raise Malformed("is not JSON: a comma before the end", f"line {self._line}")

    def _value(self) -> Any:
        self._peek()
        while True:
            why: Exception | None = None
            try:
                value, end = self._json.raw_decode(self._text, self._at)
                # a number at the end of what was read may go on
                if end < len(self._text) or self._end:
                    self._skip(end)
                    return value
            except (ValueError, RecursionError) as error:
                why = error
            if len(self._text) - self._at > MAX_VALUE or isinstance(why, RecursionError) or not self._more():
                detail = "nested too deeply" if isinstance(why, RecursionError) else str(why)
                raise Malformed(f"is not JSON ({detail})", f"line {self._line}")
