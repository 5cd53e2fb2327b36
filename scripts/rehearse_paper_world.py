"""The paper world at full size on a CPU without its weights: files in the official formats, imported; a video; time and memory.

    python scripts/rehearse_paper_world.py FOLDER [paper|official]

FOLDER gets 1.5 GB: the files (unless they are there), the imported weights, and the video, whose picture is noise. Frames turn,
which is the dearest case. PTI and the 3DMM fit take the few steps of the profile "fast".
"""

import os
import resource
import sys
import time
from pathlib import Path

import soundfile

ROOT = Path(__file__).parents[1]
SECONDS = 0.4


def peak() -> str:
    """The most memory that this process has had."""
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GB at most so far"


def main(folder: Path, method: str) -> None:
    os.environ["NFS_DATA"] = str(folder / "data")
    official = folder / "official"
    if not official.exists():
        import official_stand_ins

        official_stand_ins.write_all(official)
        print("files written; run this again: their making takes memory of its own")
        return
    from nfs_lib import cli, pipeline

    if not (folder / "data").exists():
        begin = time.perf_counter()
        assert cli.main(["weights", "import", *map(str, sorted(official.iterdir()))]) == 0
        print(f"import: {time.perf_counter() - begin:.1f} s, {peak()}", flush=True)
    speech = folder / "speech.wav"
    wave, rate = soundfile.read(ROOT / "data" / "samples" / "speech" / "hello.wav")
    soundfile.write(speech, wave[: int(SECONDS * rate)], rate)
    frame, seconds = pipeline.TalkingHead.frame, []

    def timed(*arguments: object) -> object:
        begin = time.perf_counter()
        made = frame(*arguments)  # type: ignore[arg-type]
        seconds.append(time.perf_counter() - begin)
        return made

    pipeline.TalkingHead.frame = timed  # type: ignore[assignment]
    portrait = ROOT / "data" / "samples" / "portraits" / "portrait_1.png"
    pipeline.talk(portrait, speech, folder / f"{method}.mp4", world="paper", official=method == "official", orbit=True,
                  profile="fast")
    print(f"{method}: {sorted(seconds)[len(seconds) // 2]:.2f} s a frame at 1024 × 1024 (median of {len(seconds)}), {peak()}")


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute(), sys.argv[2] if len(sys.argv) > 2 else "paper")
