"""The demo: an episode nobody has seen, drawn on the spot, through the main job, scored by its truth."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stream.config import load_config
from stream.errors import ConfigError
from stream.progress import Progress, Quiet
from stream.report.words import count, lasting, rate
from stream.summary import Summary

if TYPE_CHECKING:
    from stream.evaluate import Scores


@dataclass(frozen=True)
class DemoResult:
    """The rendered video, what the run did, and how well."""

    video: Path
    summary: Summary
    scores: Scores

    @property
    def exit_code(self) -> int:
        return self.summary.exit_code

    def as_json(self) -> dict[str, Any]:
        """The run's summary and its scores in one flat object."""
        return asdict(self.summary) | {"video": str(self.video)} | self.scores.as_json()

    def as_text(self) -> str:
        """Scores as a person reads them, and where the report is."""
        s = self.summary
        return "\n".join(
            [
                f"Episode: {self.video}",
                f"{count(s.clusters, 'cluster')} from {count(s.crops, 'crop')} in"
                f" {count(s.frames, 'frame')}, {lasting(s.seconds)} ({rate(s.times_real_time)}x real time)",
                "",
                "Against the episode's exact truth:",
                self.scores.as_text(),
                "",
                f"Report: {s.report}",
            ]
        )


def run_demo(
    out: str | Path,
    *,
    seed: int = 0,
    seconds: float = 60.0,
    characters: int = 5,
    progress: Progress | None = None,
) -> DemoResult:
    """Render an episode into ``out``, run the default job on it in ``out/work``, and score it.

    The job is run without show adaptation, whatever the number of crops: a demo is quick.

    Args:
        out: folder for the episode, its truth and the work folder.
        seed: another seed is another cast and another story.
        seconds: length of the episode. Raising it takes longer to render and gives more crops.
        characters: size of the cast. Raising it makes telling them apart harder.

    Raises:
        CelstreamError: the folder cannot be written, or a setting is out of its range.
    """
    from stream.cartoon.write import render_episode
    from stream.evaluate_job import evaluate_folder
    from stream.run_job import run

    progress = progress or Quiet()
    if characters < 1:
        raise ConfigError(f"characters: expected 1 or more, got {characters}; nobody can be found in none")
    progress.note(f"rendering {seconds:g} s of cartoon with {characters} characters ...")
    episode = render_episode(
        Path(out), seed=seed, seconds=seconds, characters=characters, style="cel", label_interval_s=0.5
    )
    work = Path(out) / "work"
    summary = run(episode.video, work, load_config(values={"adapt": "off"}), progress=progress)
    return DemoResult(episode.video, summary, evaluate_folder(work, episode.boxes_csv))
