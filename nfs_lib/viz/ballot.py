"""The page of a user study: blinded clips, one question, one vote; it goes on where it was left.

    BallotPage(Study.from_folder("videos"), "votes")        # a cell's last value, or a Voilà page

Nothing that the page sends to the browser names a method: the clips are called A, B, C … in an order of their own for each
participant, question and clip, and travel as bytes without file name and without the file's metadata. All is done by plain
widgets, so it works, and is tested, without a browser.
"""

import html
import io
import os
import time
from pathlib import Path
from string import ascii_uppercase
from typing import Any

import ipywidgets as widgets

from nfs_lib.errors import BadInput
from nfs_lib.studies.user_study import Ballot, Study, Trial

WIDTH = 320  # of a clip on the page, pixels


def anonymous(path: str | os.PathLike[str]) -> bytes:
    """A video as an mp4 without name and metadata: picture and sound are copied, not encoded again.

    Raises BadInput where the file can't be read or its streams don't fit an mp4.
    """
    import av

    copied = io.BytesIO()
    try:
        with av.open(f"file:{Path(path)}") as source, av.open(copied, "w", format="mp4") as target:
            kept = [s for s in source.streams if s.type in ("video", "audio")]
            streams = {s.index: target.add_stream_from_template(s) for s in kept}
            for stream in streams.values():
                stream.metadata.clear()
            target.metadata.clear()
            for packet in source.demux(kept):
                if packet.dts is not None:            # the empty packet that ends a stream
                    index = packet.stream.index
                    packet.stream = streams[index]
                    target.mux(packet)
    except (av.error.FFmpegError, ValueError) as error:
        raise BadInput(f"{path} can't be shown as an mp4 ({error}); give an mp4 with H.264 and AAC") from error
    return copied.getvalue()


class BallotPage:
    """Show it by making it a cell's last value. study: from `Study.from_folder`; folder: where the ballots are written.

    made_up: for trying the page out; its votes are marked as made up. A participant types a code and begins; with the same code
    the page goes on at the first question without an answer, after a restart too. Each vote is on the disk before the next
    question shows.
    """

    def __init__(self, study: Study, folder: str | os.PathLike[str], made_up: bool = False):
        if len(study.methods) > len(ascii_uppercase):
            raise BadInput(f"{len(study.methods)} methods; a page shows up to {len(ascii_uppercase)}")
        if not Path(folder).is_dir():
            raise BadInput(f"{folder} isn't a folder; make it first, the votes go there")
        self.study, self.folder, self.made_up = study, Path(folder), made_up
        self.ballot: Ballot | None = None
        self.trial: Trial | None = None
        self._since = 0.0
        self._build()

    def begin(self, code: str) -> None:
        """Open the ballot of a participant and show the first question without an answer."""
        try:
            self.ballot = Ballot(self.study, self.folder, code.strip().lower(), self.made_up)
        except BadInput as error:
            self._say(str(error))
            return
        done, of = len(self.ballot.votes), len(self.ballot.trials)
        self._say(f"Welcome back: {done} of {of} questions have been answered with this code." if done else "")
        self.entry.layout.display, self.state.layout.display = "none", ""
        self._show()

    def vote(self) -> None:
        """Record the chosen clip as the best and show the next question."""
        if self.ballot is None or self.trial is None or self.choice.value is None:
            return
        try:
            self.ballot.vote(self.trial, self.trial.order[self.choice.value], time.monotonic() - self._since)
            self._say("")
        except BadInput as error:                         # from another window: what it wrote counts
            self._say(str(error))
        except OSError as error:
            self._say(f"The vote couldn't be written ({error.strerror}). Tell the person who runs the study, then vote again.")
            return
        self._show()

    def _show(self) -> None:
        assert self.ballot is not None
        self.trial = self.ballot.next()
        self.progress.value, self.progress.max = len(self.ballot.votes), len(self.ballot.trials)
        self.count.value = f"{self.progress.value} of {self.progress.max} answered"
        self.choice.value = None
        if self.trial is None:
            self.question.value = "<h3>That was all. Thank you.</h3>"
            self._open(False)
            return
        for video, method in zip(self.videos, self.trial.order, strict=True):
            try:
                video.value = anonymous(self.study.videos[method][self.trial.clip])
            except (BadInput, OSError):                   # what they say names the file, and so the method
                self._say("A clip can't be shown. Tell the person who runs the study.")
                self.trial = None
                self._open(False)
                return
        self.question.value = f"<h3>{html.escape(self.study.questions[self.trial.question])}</h3>"
        self._open(True)
        self._since = time.monotonic()

    def _say(self, text: str) -> None:
        self.message.value = html.escape(text)

    def _open(self, voting: bool) -> None:
        """Show or hide the clips and the buttons."""
        self.clips.layout.display = "" if voting else "none"
        self.buttons.layout.display = "" if voting else "none"
        if not voting:
            for video in self.videos:
                video.value = b""

    def _build(self) -> None:
        letters = ascii_uppercase[: len(self.study.methods)]
        self.code = widgets.Text(description="Your code", placeholder="a–z, 0–9, - and _")
        self.start = widgets.Button(description="Begin", button_style="primary")
        self.start.on_click(lambda button: self.begin(self.code.value))
        how = widgets.HTML("Each question shows clips of the same speech. Watch them all with sound, then vote for the best. "
                           "You may stop at any time and go on later with the same code.")  # fmt: skip
        self.entry = widgets.VBox([how, widgets.HBox([self.code, self.start])])
        self.question, self.message = widgets.HTML(), widgets.HTML()
        self.progress = widgets.IntProgress(layout={"width": "200px"})
        self.count = widgets.Label()
        self.state = widgets.HBox([self.progress, self.count], layout={"display": "none"})
        size = {"width": f"{WIDTH}px"}
        self.videos = [widgets.Video(autoplay=False, loop=False, format="mp4", layout=size) for _ in letters]
        named = [widgets.VBox([widgets.HTML(f"<b>{a}</b>"), video]) for a, video in zip(letters, self.videos, strict=True)]
        self.clips = widgets.HBox(named, layout={"flex_flow": "row wrap", "grid_gap": "12px"})
        self.choice = widgets.ToggleButtons(options=[(a, i) for i, a in enumerate(letters)], value=None,
                                            style={"button_width": "60px"})  # fmt: skip
        self.save = widgets.Button(description="Vote", button_style="primary", disabled=True)
        self.save.on_click(lambda button: self.vote())
        self.choice.observe(lambda change: setattr(self.save, "disabled", change["new"] is None), "value")
        self.buttons = widgets.HBox([widgets.Label("The best is"), self.choice, self.save])
        trial_run = widgets.HTML("<i>Trial run: votes are marked as made up.</i>" if self.made_up else "")
        self.widget = widgets.VBox([trial_run, self.entry, self.state, self.question, self.clips, self.buttons, self.message])
        self.widget.add_class("nfs-ballot")
        self._open(False)

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        return self.widget._repr_mimebundle_(**kwargs)
