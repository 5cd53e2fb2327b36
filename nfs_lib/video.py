"""Video files with sound: H.264 and AAC in an mp4, written whole or not at all, and read back."""

import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, UInt8

from nfs_lib.audio import resampled
from nfs_lib.checks import check_array, check_number
from nfs_lib.disclosure import Signs
from nfs_lib.errors import BadInput
from nfs_lib.paths import check_input, check_output
from nfs_lib.writing import replacing

FPS = 25
SAMPLE_RATE = 16_000  # of the kit's sound arrays
LONGEST = 7200  # seconds of sound that are read
STILL = 600  # seconds without a new picture: no film stands still for so long
MOST_PLANES = 8  # channels of a sound stored one after the other: of more, PyAV reads beyond the frame and crashes
LARGEST = (8192, 4320)  # pixels of a picture
FILE_RATE = 48_000  # of the sound in a file, which every player takes
AAC_FRAME = 1024
DISCLOSURE = "Synthetic talking head; not a recording. Made with the NeRFFaceSpeech kit."
SIGNED = Signs()
UNSPECIFIED = 2  # the code of no matrix
BT709 = 1  # the code of ITU-R BT.709 as matrix, primaries and transfer curve


class Video(NamedTuple):
    """What `read_video` gives: all frames, frames per second, and the sound at 16 kHz, if there is any."""

    frames: UInt8[np.ndarray, "T H W 3"]
    fps: float
    audio: Float32[np.ndarray, " N"] | None


class VideoWriter:
    """A context manager that takes frames one by one.

        with VideoWriter("talk.mp4", audio=wave) as video:
            video.write(frame)          # (H, W, 3) uint8; all of one size

    The sound (mono, 16 kHz, in [-1, 1]) is cut or filled with silence to the length of the picture. A frame
    with an odd side gets its last row or column twice. If the block fails, an older file stays as it was. comment: what the
    file's metadata says of it; signs: the visible mark, and what the manifest says. Only recordings may do without the
    disclosure and, by signs=None, without mark, watermark and manifest.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        audio: Float32[np.ndarray, " N"] | None = None,
        fps: int = FPS,
        comment: str = DISCLOSURE,
        signs: Signs | None = SIGNED,
    ) -> None:
        """Raises BadInput where `path` can't be written (see `check_output`) or sound and fps aren't as above."""
        check_number(fps, "the frames per second", 1, 1000, whole=True)
        if audio is not None and len(audio):
            check_array(audio, "the sound of a video", "float32", "N")
        self.path, self.fps, self.comment, self.frames, self._samples = check_output(path), fps, comment, 0, 0
        self.signs = signs
        self._sound = None if audio is None else _Sound(audio)
        self._size: tuple[int, ...] = ()

    def __enter__(self) -> "VideoWriter":
        import av

        with ExitStack() as stack:
            temporary = stack.enter_context(replacing(self.path))
            if self.signs:
                from nfs_lib.disclosure.manifest import signing

                temporary = stack.enter_context(signing(temporary, self.signs))
            options = {"movflags": "+faststart"}
            self._file: Any = stack.enter_context(av.open(str(temporary), "w", options=options))
            self._stack = stack.pop_all()
        self._file.metadata["comment"] = self.comment
        self._voice: Any = None
        return self

    def write(self, frame: UInt8[np.ndarray, "H W 3"]) -> None:
        """Add one frame, and the sound that goes with it. Raises BadInput for what isn't a frame or isn't like the first."""
        import av

        check_array(frame, f"frame {self.frames} of a video", "uint8", "H", "W", 3)
        if max(frame.shape) > LARGEST[0]:
            raise BadInput(f"frame {self.frames} is {frame.shape}, more than {LARGEST[0]} pixels on a side; scale it down")
        if not self.frames:
            self._open_streams(frame)
        if frame.shape != self._size:
            raise BadInput(f"frame {self.frames} is {frame.shape}, the first one was {self._size}; give all of one size")
        height, width = frame.shape[:2]
        if height % 2 or width % 2:
            frame = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        if self.signs:
            from nfs_lib.disclosure.mark import marked
            from nfs_lib.disclosure.watermark import watermarked

            frame = watermarked(marked(frame) if self.signs.mark else frame)
        rgb = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        picture = rgb.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
        picture.pts, picture.time_base = self.frames, Fraction(1, self.fps)
        self._file.mux(self._picture.encode(picture))
        self.frames += 1
        self._write_sound(self.frames * FILE_RATE // self.fps, last=False)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._stack.__exit__(kind, error, trace)
            return
        with self._stack:  # at its end the file is closed, then put in its place
            if not self.frames:
                raise BadInput(f"no frame was written to {self.path}; a video needs one at least")
            self._write_sound(self.frames * FILE_RATE // self.fps, last=True)
            self._file.mux(self._picture.encode(None))
            if self._voice:
                self._file.mux(self._voice.encode(None))

    def _open_streams(self, frame: np.ndarray) -> None:
        self._size = frame.shape
        options = {"crf": "18", "preset": "medium"}
        self._picture: Any = self._file.add_stream("libx264", rate=self.fps, options=options)
        self._picture.height, self._picture.width = (side + side % 2 for side in frame.shape[:2])
        self._picture.pix_fmt = "yuv420p"
        context = self._picture.codec_context
        context.colorspace = context.color_primaries = context.color_trc = BT709
        context.color_range = 1  # "MPEG": luma from 16 to 235
        if self._sound is not None:
            self._voice = self._file.add_stream("aac", rate=FILE_RATE, layout="mono")
            self._voice.bit_rate = 128_000

    def _write_sound(self, end: int, last: bool) -> None:
        """Encode whole AAC frames up to sample `end`; at the last call the remainder too."""
        import av

        if self._sound is None:
            return
        while self._samples < end and (last or self._samples + AAC_FRAME <= end):
            count = min(AAC_FRAME, end - self._samples)
            frame = av.AudioFrame.from_ndarray(self._sound.take(count)[None], format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = FILE_RATE, self._samples, Fraction(1, FILE_RATE)
            self._file.mux(self._voice.encode(frame))
            self._samples += count


class _Sound:
    """A sound at 16 kHz, handed out at the file's rate piece by piece: of ten minutes the whole would be 115 MB."""

    def __init__(self, wave: Float32[np.ndarray, " N"]) -> None:
        import soxr

        self._wave, self._given, self._ready = wave, 0, np.zeros(0, np.float32)
        self._stream = soxr.ResampleStream(SAMPLE_RATE, FILE_RATE, 1, dtype="float32")

    def take(self, count: int) -> Float32[np.ndarray, " count"]:
        """The next `count` samples; silence after the end."""
        while len(self._ready) < count and self._given < len(self._wave):
            piece = self._wave[self._given : self._given + SAMPLE_RATE]
            self._given += len(piece)
            more = self._stream.resample_chunk(np.ascontiguousarray(piece), last=self._given == len(self._wave))
            self._ready = np.concatenate([self._ready, more])
        taken, self._ready = self._ready[:count], self._ready[count:]
        return np.pad(taken, (0, count - len(taken)))


def write_video(
    path: str | os.PathLike[str],
    frames: Iterable[UInt8[np.ndarray, "H W 3"]],
    audio: Float32[np.ndarray, " N"] | None = None,
    fps: int = FPS,
    signs: Signs | None = SIGNED,
) -> Path:
    """Write all `frames` with their sound (mono, 16 kHz) to an mp4; returns its path. See `VideoWriter`."""
    with VideoWriter(path, audio, fps, signs=signs) as video:
        for frame in frames:
            video.write(frame)
    return video.path


def read_video(path: str | os.PathLike[str]) -> Video:
    """Read a whole video into memory: RGB frames and the sound as mono at 16 kHz, both from the same start.

    Raises BadInput if the file is missing, is a folder, or holds no picture that can be decoded.
    """
    with _open(path) as file:
        fps = file.streams.video[0].average_rate or Fraction(FPS)
        frames = [frame.to_ndarray(format="rgb24") for frame in file.decode(file.streams.video[0])]
    if not frames:
        raise BadInput(f"{path} holds no frame; give a video file such as an mp4")
    if len({frame.shape for frame in frames}) > 1:
        raise BadInput(f"{path} holds frames of several sizes; write it anew in one size (ffmpeg -i IN -s 512x512 OUT.mp4)")
    return Video(np.stack(frames), float(fps), read_sound(path))


def every_frame(path: str | os.PathLike[str]) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    """The frames of a video one by one, as they are stored, in the colours of BT.709 where the file doesn't say of what.
    Raises BadInput as `read_video` does."""
    frame = None
    with _open(path) as file:
        for frame in file.decode(file.streams.video[0]):
            known = frame.colorspace != UNSPECIFIED
            yield frame.reformat(format="rgb24", src_colorspace=None if known else "ITU709").to_ndarray()
    if frame is None:
        raise BadInput(f"{path} holds no frame; give a video file such as an mp4")


def read_sound(path: str | os.PathLike[str]) -> Float32[np.ndarray, " N"] | None:
    """The sound of a video as mono at 16 kHz, from the moment of its first frame, two hours at most; None if it has none.

    Raises BadInput as `read_video` does.
    """
    with _open(path) as file:
        if not file.streams.audio or not file.streams.audio[0].codec_context:
            return None
        picture, voice = file.streams.video[0], file.streams.audio[0]
        picture_start = next((frame.time or 0.0 for frame in file.decode(picture)), 0.0)
        file.seek(0)
        frames = file.decode(voice)
        first = next(frames, None)
        if first is None:
            return None
        lead = round(((first.time or 0.0) - picture_start) * SAMPLE_RATE)
        if abs(lead) > LONGEST * SAMPLE_RATE:
            raise BadInput(f"{path}: its sound begins {lead / SAMPLE_RATE:.0f} s after its picture; write the video anew")
        told = float(voice.duration * voice.time_base) if voice.duration and voice.time_base else LONGEST
        wave = resampled(_pieces(chain([first], frames), min(told, LONGEST)), path)
    return np.pad(wave, (lead, 0)) if lead > 0 else wave[-lead:]


def _pieces(frames: Iterable[Any], seconds: float) -> Iterator[tuple[Float32[np.ndarray, " n"], int]]:
    """Decoded sound in mono pieces with their sample rate, `seconds` of it: the last AAC frame is longer than what it holds."""
    count = 0
    for frame in frames:
        left = round(seconds * frame.sample_rate) - count
        if left <= 0:
            return
        yield _mono(frame)[:left], frame.sample_rate
        count += frame.samples


def stream_frames(
    path: str | os.PathLike[str], longest_side: int = 640, fps: int = FPS
) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    """The frames of a video one by one, upright, at `fps` whatever its own rate is: at each tick the frame then on show.

    longest_side: larger frames are scaled down to it. Raises BadInput as `read_video` does.
    """
    held, shown, ticks, start, last = None, None, 0, None, 0.0
    with _open(path) as file:
        stream = file.streams.video[0]
        for frame in file.decode(stream):
            time = frame.time if frame.time is not None else last + 1 / fps
            start = time if start is None else start
            if time - start > ticks / fps + STILL:
                raise BadInput(f"{path} stands still for {time - start - ticks / fps:.0f} s; write the video anew")
            while held is not None and ticks / fps < time - start - 1e-3:
                shown = _upright(held, longest_side) if shown is None else shown
                yield shown
                ticks += 1
            held, shown, last = frame, None, time
        if held is None or start is None:
            raise BadInput(f"{path} holds no frame; give a video file such as an mp4")
        end = last - start + 1 / float(stream.average_rate or fps)
        while ticks / fps < end - 1e-3:
            shown = _upright(held, longest_side) if shown is None else shown
            yield shown
            ticks += 1


def length(path: str | os.PathLike[str], fps: int = FPS) -> int | None:
    """About how many frames `stream_frames` will give, as far as the file says. Raises BadInput as `read_video` does."""
    with _open(path) as file:
        return round(file.duration / 1_000_000 * fps) if file.duration else None


def comment(path: str | os.PathLike[str]) -> str:
    """What the metadata of a video say of it, for example the disclosure; empty if nothing. Raises BadInput as `read_video`."""
    with _open(path) as file:
        return file.metadata.get("comment", "")


@contextmanager
def _open(path: str | os.PathLike[str]) -> Iterator[Any]:
    """A video file whose picture can be decoded; BadInput for any other, and for what fails while it is read."""
    import av

    path = check_input(path, "a video file such as an mp4")
    try:
        limit = {"max_pixels": str(LARGEST[0] * LARGEST[1])}
        with av.open(f"file:{path}", options={"protocol_whitelist": "file", **limit}) as file:
            if not file.streams.video:
                raise BadInput(f"{path} holds no picture; give a video file such as an mp4")
            if not file.streams.video[0].codec_context:
                raise BadInput(f"{path} is in a coding that nothing here decodes; give a video file such as an mp4")
            file.streams.video[0].codec_context.options = limit
            yield file
    except (av.error.FFmpegError, ValueError, OSError, MemoryError) as error:
        what = getattr(error, "strerror", None) or str(error) or type(error).__name__
        size = f"{LARGEST[0]}x{LARGEST[1]}"
        raise BadInput(f"{path} can't be decoded ({what}); give a video such as an mp4, at most {size} pixels") from error


def _upright(frame: Any, longest_side: int) -> UInt8[np.ndarray, "H W 3"]:
    """A decoded frame as RGB, scaled down, turned as the file says that it was filmed."""
    scale = min(1.0, longest_side / max(frame.width, frame.height))
    width, height = (max(1, round(side * scale)) for side in (frame.width, frame.height))
    picture = frame.reformat(width=width, height=height, format="rgb24", interpolation="AREA").to_ndarray()
    return np.ascontiguousarray(np.rot90(picture, round(getattr(frame, "rotation", 0) / 90) % 4))


def _mono(frame: Any) -> Float32[np.ndarray, " N"]:
    """Mean over the channels of one decoded sound frame, in [-1, 1]."""
    if frame.format.is_planar and frame.layout.nb_channels > MOST_PLANES:
        raise ValueError(f"its sound has {frame.layout.nb_channels} channels, {MOST_PLANES} at most are read")
    values = frame.to_ndarray()
    if values.shape[0] == 1:  # packed formats interleave the channels in one row
        values = values.reshape(-1, frame.layout.nb_channels).T
    if values.dtype.kind != "f":
        zero = 128 if values.dtype == np.uint8 else 0
        values = (values.astype(np.float32) - zero) / (128 if zero else -float(np.iinfo(values.dtype).min))
    return values.mean(axis=0, dtype=np.float32)
