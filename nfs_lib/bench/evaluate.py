"""The row "evaluate": `nfs evaluate` on one clip, against a plain reference."""

import tempfile
import time
from pathlib import Path

import numpy as np

from nfs_lib.bench.measuring import Figures

WORLD = "open"
CLIP = 100                                           # frames of the clip that is measured


def evaluate() -> Figures:
    """`nfs evaluate` on one clip of 4 s at 256 × 256, on one thread, as the command does it.

    fps: frames a second, all in; fps_decoded: without reading frames and sound (finding the face, which reads the file too, is
    in it); share_…: of the time, for each part; reference_fps:
    where each metric reads the video and finds the face by itself (`plain_evaluate`); ratio: fps ÷ reference_fps.
    """
    from nfs_lib import audio, samples, video
    from nfs_lib.disclosure import Signs
    from nfs_lib.studies.cluster import one_thread
    from nfs_lib.studies.measuring import measure

    wave = audio.load_speech(samples.speech_file("hello"))[: CLIP * audio.SAMPLE_RATE // audio.FPS]
    picture = samples.truth().image
    shake = np.random.default_rng(0).integers(0, 4, (CLIP, *picture.shape), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.mp4"
        video.write_video(clip, (np.minimum(picture, 252) + noise for noise in shake), wave, signs=Signs(mark=False))
        with one_thread():
            measure(clip, WORLD)                     # loads the networks
            begin = time.perf_counter()
            result = measure(clip, WORLD)
            ours = time.perf_counter() - begin
            begin = time.perf_counter()
            plain_evaluate(clip)
            plain = time.perf_counter() - begin
    reading = result.seconds["decode"] + result.seconds["sound"]
    shares = {f"share_{part.replace(', ', '_')}": seconds / ours for part, seconds in result.seconds.items()}
    return {"fps": CLIP / ours, "fps_decoded": CLIP / (ours - reading), **shares, "reference_fps": CLIP / plain,
            "ratio": plain / ours}


def plain_evaluate(clip: Path) -> Figures:
    """What `measuring.measure` gives, written out as four scripts would do it: each reads all frames and frames the face."""
    from nfs_lib.framing import frame_clip, stack
    from nfs_lib.images import to_uint8
    from nfs_lib.metrics import cpbd, luminance
    from nfs_lib.studies.measuring import networks
    from nfs_lib.video import read_sound, read_video

    backend, finder = networks(WORLD)

    def crops():
        framing = frame_clip(clip, finder.estimator, finder.face_model)
        return stack(list(read_video(clip).frames), framing.transform)

    features = backend.features(crops()).numpy()
    embeddings = backend.identity(crops()).numpy()
    sharp = np.mean([cpbd(luminance(frame)) for frame in to_uint8(crops())])
    sound = read_sound(clip)
    assert sound is not None
    synced = backend.sync(crops(), sound)
    return {"features": float(features.mean()), "CSIM": float((embeddings @ embeddings[0]).mean()), "CPBD": float(sharp),
            "LSE-D": synced.distance, "LSE-C": synced.confidence}
