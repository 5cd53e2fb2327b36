"""Make the spoken samples (data/samples/speech) and the held-out speech (data/heldout/speech.npz).

Needs eSpeak NG: pip install -e '.[train]'. Deterministic: run again, the same files come out.
"""

import json

import numpy as np
import soundfile

from nfs_lib.audio import SAMPLE_RATE
from nfs_lib.paths import data_folder
from nfs_lib.training.speech import Synthesiser, with_pauses
from nfs_lib.training.speech_clips import HELD_OUT_CLIPS, HELD_OUT_FILE, HELD_OUT_SEED, make_clips
from nfs_lib.writing import replacing

SAMPLES = {  # file: (voice, words per minute, pitch, text)
    "hello": ("en-us+f3", 158, 55, "Hello! We have never met before, but I am happy to talk to you."),
    "moon": ("en-gb-x-rp+m3", 145, 40, "Come and see the moon above the water. What a beautiful evening!"),
    "amigos": ("es+Andrea", 150, 50, "Buenos días, amigos. Me llamo Paloma, y hoy vamos a hablar un poco."),
}
README = """Spoken samples, 16 kHz mono, made by scripts/make_samples_speech.py

Synthesised with eSpeak NG 1.52 (PyPI package espeakng-loader). No recording of anybody is in them, and a
synthesiser's licence doesn't reach what it says: these files are free to use for anything (CC0).
Beside each lies, as JSON, what is said when: each sound in IPA (empty: a pause), its begin and end in seconds.

"""


def main() -> None:
    """Write both sets."""
    folder, synthesiser, listed = data_folder() / "samples" / "speech", Synthesiser(), README
    folder.mkdir(parents=True, exist_ok=True)
    for name, (voice, rate, pitch, text) in SAMPLES.items():
        utterance = with_pauses(synthesiser.speak(text, voice, rate, pitch), 0.25, 0.35)
        wave = 0.7 * utterance.wave / np.abs(utterance.wave).max()
        with replacing(folder / f"{name}.wav") as temporary:
            soundfile.write(temporary, wave, SAMPLE_RATE, subtype="PCM_16")
        with replacing(folder / f"{name}.json") as temporary:
            sounds = [(p.ipa, round(p.start, 3), round(p.end, 3)) for p in utterance.phonemes]
            temporary.write_text(json.dumps({"text": text, "voice": voice, "sounds": sounds}, ensure_ascii=False) + "\n")
        listed += f"{name}.wav  {len(wave) / SAMPLE_RATE:.1f} s, voice {voice}, {rate} words a minute\n"
        listed += f"    {text}\n"
    with replacing(folder / "README.txt") as temporary:
        temporary.write_text(listed, encoding="utf8")
    held_out = make_clips(HELD_OUT_CLIPS, HELD_OUT_SEED, held_out=True)
    held_out.save(data_folder() / HELD_OUT_FILE, f"seed {HELD_OUT_SEED}")


if __name__ == "__main__":
    main()
