"""A user study (the paper's Tables 3 and 4): blinded clips, a vote for the best per question, one csv per participant.

The folder of videos has one subfolder per method and in each the same clips: `videos/METHOD/CLIP.mp4`, as `nfs evaluate` has
it. Each participant answers each question about each clip once; `nfs_lib.viz.ballot.BallotPage` shows them. A participant's
votes are one csv, `ballot_CODE.csv`, written whole after each vote, with the columns of `FIELDS`. `nfs_lib.studies.votes`
says what they mean.

The paper's own questions aren't known here (see data/paper/README.md); `QUESTIONS` are this kit's.
"""

import csv
import hashlib
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nfs_lib.errors import BadInput
from nfs_lib.paths import check_input
from nfs_lib.video import length
from nfs_lib.writing import replacing

QUESTIONS = {
    "lips": "In which clip do the lips fit the sound best?",
    "natural": "Which clip looks most natural?",
    "quality": "Which clip has the best picture?",
    "pose": "In which clip does the head keep its shape best while it turns?",
}
SUFFIXES = (".mp4", ".m4v", ".mov", ".webm")
CODE = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
FIELDS = ("participant", "question", "clip", "order", "choice", "seconds", "time", "made_up")
MADE_UP = "made-up ballots"


class Trial(NamedTuple):
    """One question about one clip; order: the methods as they are shown, first to last."""

    question: str
    clip: str
    order: tuple[str, ...]


class Vote(NamedTuple):
    """One line of a ballot. choice: a method; seconds: from showing to voting; time: UTC, ISO 8601."""

    participant: str
    question: str
    clip: str
    order: tuple[str, ...]
    choice: str
    seconds: float
    time: str
    made_up: bool


@dataclass(frozen=True)
class Study:
    """What is asked about which videos. videos: method → clip → file; questions: short name → what the participant reads."""

    videos: dict[str, dict[str, Path]]
    questions: dict[str, str]

    @classmethod
    def from_folder(cls, folder: str | os.PathLike[str], questions: Mapping[str, str] = QUESTIONS) -> "Study":
        """All methods (subfolders) and clips (video files) of `folder`.

        Raises BadInput where there are fewer than two methods, a method lacks a clip that another has, two files are the same
        clip, or a file can't be opened as a video; and without a question.
        """
        folder = Path(folder)
        if not questions or not all(map(str.strip, [*questions, *questions.values()])):
            raise BadInput("a study needs questions; give a dict from short name to what the participant reads")
        if not folder.is_dir():
            raise BadInput(f"{folder} isn't a folder; give one with a subfolder for each method")
        videos: dict[str, dict[str, Path]] = {}
        for method in sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith((".", "_"))):
            files = sorted(p for p in method.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
            videos[method.name] = {p.stem: p for p in files}
            if len(videos[method.name]) < len(files):
                raise BadInput(f"{method} has two files of one name; keep one video for each clip")
        if len(videos) < 2 or any(";" in name for name in videos):
            raise BadInput(f"{folder} has the methods {', '.join(videos) or 'none'}; expected two or more folders without ';'")
        clips = sorted({clip for files in videos.values() for clip in files})
        missing = [f"{method}/{clip}" for method, files in videos.items() for clip in clips if clip not in files]
        if missing or not clips:
            some = (", ".join(missing[:5]) or "videos") + (" and more" if missing[5:] else "")
            raise BadInput(f"{folder} lacks {some}; every method needs every clip, as one of {', '.join(SUFFIXES)}")
        for path in [path for own in videos.values() for path in own.values()]:
            length(path)
        return cls(videos, dict(questions))

    @property
    def methods(self) -> list[str]:
        """Sorted names."""
        return list(self.videos)

    @property
    def clips(self) -> list[str]:
        """Sorted names."""
        return list(next(iter(self.videos.values())))

    def trials(self, participant: str) -> list[Trial]:
        """All questions about all clips: clips in an order of this participant's own, questions in theirs, methods shuffled
        anew for each. The participant's code alone decides, so a restart finds the same orders."""
        clips = sorted(self.clips, key=lambda clip: _shuffle(participant, clip))
        return [
            Trial(question, clip, tuple(sorted(self.methods, key=lambda m: _shuffle(participant, question, clip, m))))
            for clip in clips
            for question in self.questions
        ]


def _shuffle(*words: str) -> str:
    """A number that these words decide and that says nothing of them: sorting by it shuffles."""
    return hashlib.sha256("\0".join(words).encode()).hexdigest()


class Ballot:
    """One participant's votes and the file that keeps them. made_up: votes that nobody cast, for tests and exercises.

    Raises BadInput for a participant code that isn't 1–32 of a–z, 0–9, "-", "_", and where the file of an earlier sitting can't
    be read, belongs to another study, or differs in `made_up`; that file then stays as it is.
    """

    def __init__(self, study: Study, folder: str | os.PathLike[str], participant: str, made_up: bool = False):
        if not CODE.fullmatch(participant):
            raise BadInput(f"participant code {participant!r}; expected 1 to 32 of a–z, 0–9, - and _, not - or _ first")
        self.study, self.participant, self.made_up = study, participant, made_up
        self.path = Path(folder) / f"ballot_{participant}.csv"
        if not self.path.parent.is_dir():
            raise BadInput(f"{self.path.parent} isn't a folder; make it first, the votes go there")
        self.trials = study.trials(participant)
        self.votes = self._read()

    def _read(self) -> list[Vote]:
        votes = read_ballot(self.path) if self.path.exists() else []
        known = {(t.question, t.clip): t.order for t in self.trials}
        if any(known.get((v.question, v.clip)) != v.order for v in votes):
            raise BadInput(f"{self.path} has votes of another study (other clips, questions or methods); use another folder")
        if any(v.made_up != self.made_up for v in votes):
            raise BadInput(f"{self.path} mixes made-up and real votes; keep {MADE_UP} in a folder of their own")
        return votes

    def next(self) -> Trial | None:
        """The first trial without a vote; None when all are answered."""
        done = {(v.question, v.clip) for v in self.votes}
        return next((t for t in self.trials if (t.question, t.clip) not in done), None)

    def vote(self, trial: Trial, choice: str, seconds: float) -> None:
        """Record that `choice`, a method, is the best in `trial`, and write the file.

        Raises BadInput where the trial has a vote already, be it from another window, or isn't this participant's.
        """
        if trial not in self.trials or choice not in trial.order:
            raise BadInput(f"{choice!r} can't be chosen in this trial; give a trial of Ballot.trials and one of its methods")
        self.votes = self._read()
        if any((v.question, v.clip) == (trial.question, trial.clip) for v in self.votes):
            raise BadInput(f"participant {self.participant} has answered {trial.question!r} for clip {trial.clip!r} already")
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        votes = [*self.votes, Vote(self.participant, *trial, choice, round(seconds, 2), now, self.made_up)]
        with replacing(self.path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(FIELDS)
            writer.writerows((*v[:3], ";".join(v.order), *v[4:7], "yes" if v.made_up else "no") for v in votes)
        self.votes = votes


def read_ballot(path: str | os.PathLike[str]) -> list[Vote]:
    """The votes of one participant's csv. Raises BadInput, naming the line but not what was voted, for anything but that."""
    path = check_input(path, "the ballot of a participant, ballot_CODE.csv")
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.reader(file, strict=True)
            lines = [(reader.line_num, line) for line in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{path} can't be read as a ballot ({error}); it is left as it is: mend it or move it away") from error
    votes: list[Vote] = []
    for number, line in lines[1:] if lines and tuple(lines[0][1]) == FIELDS else [(1, [])]:
        vote = _vote(line)
        if vote is None or f"ballot_{vote.participant}" != path.stem:
            raise BadInput(f"{path}, line {number}, isn't a line of this ballot; it is left as it is: mend it or move it away")
        if any((v.question, v.clip) == (vote.question, vote.clip) for v in votes):
            raise BadInput(f"{path}, line {number}: a second vote on the same question and clip; take one of the two out")
        votes.append(vote)
    return votes


def _vote(line: list[str]) -> Vote | None:
    """A line of a ballot, or None where it isn't one."""
    try:
        participant, question, clip, order, choice, seconds, time, made_up = line
        datetime.fromisoformat(time)
        vote = Vote(participant, question, clip, tuple(order.split(";")), choice, float(seconds), time, made_up == "yes")
    except ValueError:
        return None
    well = CODE.fullmatch(participant) and question and clip and choice in vote.order and len({*vote.order}) == len(vote.order)
    return vote if well and 0 <= vote.seconds < math.inf and made_up in ("yes", "no") else None


def make_up_ballots(study: Study, folder: str | os.PathLike[str], participants: int, weights: Mapping[str, float],
                    taste: float = 0.0, seed: int = 0) -> None:  # fmt: skip
    """Ballots that nobody cast, marked as made up: each participant votes at random with the methods' weights.

    taste: how much participants differ from each other (0: not at all); each one's log weights get normal noise of this size.
    Raises BadInput where a weight is missing or negative.
    """
    if set(weights) != set(study.methods) or min(weights.values()) < 0 or sum(weights.values()) <= 0:
        raise BadInput(f"weights {dict(weights)} were given; expected one from 0 up for each of {', '.join(study.methods)}")
    rng = np.random.default_rng(seed)
    for number in range(participants):
        ballot = Ballot(study, folder, f"made-up-{number:03d}", made_up=True)
        own = {m: weights[m] * math.exp(taste * rng.standard_normal()) for m in study.methods}
        while trial := ballot.next():
            p = np.array([own[m] for m in trial.order])
            ballot.vote(trial, trial.order[rng.choice(len(p), p=p / p.sum())], seconds=float(rng.gamma(4.0, 3.0)))
