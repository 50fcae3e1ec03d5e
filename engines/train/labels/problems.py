"""What is wrong with labels: each finding with its file, its place there, and what was done about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from stream.files import text

#: What can be found, and what it means. Every finding is of one of these kinds.
KINDS = {
    "malformed": "cannot be read as what it should be",
    "unknown_class": "class that no list of classes names",
    "degenerate": "box without area",
    "outside": "box that sticks out of its image",
    "off_image": "box wholly outside its image",
    "duplicate": "same box of the same class again",
    "only_unusable": "image that has boxes, but none that can be used",
    "missing_image": "labels whose image is not there",
    "ambiguous_image": "labels that could mean several images",
    "unreadable_image": "image that cannot be read",
    "unlabelled_image": "image without labels",
    "unknown_image": "annotation of an image that is not listed",
    "unsafe_name": "name that leads out of the folder or cannot be written",
    "size_mismatch": "image of another size than its labels say",
    "not_judged": "frame marked as credits or uncertain",
    "late_time": "labelled time after the end of its video",
    "duplicate_class": "class of the same name again",
    "leaking_split": "video with frames in several splits",
    "same_image_twice": "image labelled in two places",
    "renamed": "two images that would get one name",
    "name_differs": "labels that name another file than the one beside them",
    "counted_from_0": "pixels counted from 0 where the format counts from 1",
    "outline": "outline in place of a box",
    "not_carried": "what boxes and classes cannot hold",
    "rounded": "boxes rounded more coarsely than they were",
    "ignored_file": "file that is not part of the labels",
}
#: Kinds that `strict` does not refuse: what the labels themselves ask for, or no box suffers from.
NOTES = frozenset(
    (
        "not_judged",
        "same_image_twice",
        "renamed",
        "name_differs",
        "counted_from_0",
        "outline",
        "not_carried",
        "rounded",
        "ignored_file",
    )
)
LEFT_OUT = "left out"
CLIPPED = "clipped"
KEPT = "kept"
NOT_CARRIED = "not carried over"


@dataclass(frozen=True)
class Problem:
    """One finding: its kind (a key of ``KINDS``), the file, the place in it, what it is, what was done."""

    kind: str
    file: str
    where: str  # "line 3", "annotation 17", or nothing where it is the whole file
    detail: str
    action: str  # "left out", "clipped", "kept", ...

    def __str__(self) -> str:
        place = f"{self.file}, {self.where}" if self.where else self.file
        return text(f"{place}: {self.detail} ({self.action})")


class Problems:
    """The findings of one reading or conversion, in the order they were found."""

    def __init__(self) -> None:
        self._found: list[Problem] = []

    def add(self, kind: str, file: object, where: str, detail: str, action: str = LEFT_OUT) -> None:
        """Note one finding (``KeyError`` for a kind that is none)."""
        KINDS[kind]
        self._found.append(Problem(kind, text(str(file)), text(where), text(detail), action))

    def __len__(self) -> int:
        return len(self._found)

    def __iter__(self) -> Iterator[Problem]:
        return iter(self._found)

    def of(self, kind: str) -> list[Problem]:
        """The findings of one kind."""
        return [problem for problem in self._found if problem.kind == kind]

    def serious(self) -> list[Problem]:
        """The findings that `strict` refuses: all but notes."""
        return [problem for problem in self._found if problem.kind not in NOTES]

    def left_out(self) -> int:
        """How many of the serious findings led to something being left out."""
        return sum(problem.action == LEFT_OUT for problem in self.serious())

    def counts(self) -> dict[str, int]:
        """How many of each kind, in the order of ``KINDS``; kinds without any are not in it."""
        counted = Counter(problem.kind for problem in self._found)
        return {kind: counted[kind] for kind in KINDS if counted[kind]}

    def as_json(self) -> list[dict[str, str]]:
        """All findings, for a program."""
        return [asdict(problem) for problem in self._found]

    def as_text(self, limit: int | None = None) -> str:
        """A line per kind with its count, then a line per finding, at most ``limit`` of them."""
        lines = []
        for kind, count in self.counts().items():
            actions = Counter(problem.action for problem in self.of(kind))
            done = ", ".join(f"{n} {action}" if len(actions) > 1 else action for action, n in actions.items())
            lines.append(f"{count:6}  {kind}: {KINDS[kind]} ({done})")
        shown = self._found if limit is None else self._found[:limit]
        lines += [f"  {problem.kind}: {problem}" for problem in shown]
        if len(shown) < len(self):
            lines.append(f"  ... and {len(self) - len(shown)} more")
        return "\n".join(lines)
