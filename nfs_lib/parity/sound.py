"""Parity of what hears and paints: mel frames, Audio2Exp, LipaintNet."""

import numpy as np
import torch

from nfs_lib import audio
from nfs_lib.audio2exp import Audio2Exp, speech_to_expression
from nfs_lib.lipaint import LipaintNet
from nfs_lib.parity.golden import Compared, GoldenSet


def check_audio(golden: GoldenSet) -> Compared:
    import soundfile

    path = golden.folder / golden.entry["meta"]["wav"]
    wave = audio.load_speech(path)
    frames = audio.video_frames(wave)
    whole = wave[: golden.entry["meta"]["samples_used"]]
    mel, windows = audio.mel_spectrogram(whole), audio.mel_windows(wave)
    yield "mel", mel
    yield "window_columns", audio.window_columns(frames, mel.shape[1])
    yield "chunks_mean_std", np.stack([windows.mean((1, 2)), windows.std((1, 2))], axis=1)
    yield "chunks_first4_last2", np.concatenate([windows[:4], windows[-2:]])
    yield "mel_basis", audio.mel_filters()
    reflected = audio.log_mel(np.pad(audio.preemphasise(whole), audio.N_FFT // 2, mode="reflect"))
    yield "mel_reflect_edges", np.concatenate([reflected[:, :3], reflected[:, -3:]], axis=1)
    yield "mfcc", audio.mfcc(soundfile.read(path, dtype="int16")[0])


def check_audio2exp(golden: GoldenSet) -> Compared:
    given, model = golden.golden, Audio2Exp(64)
    golden.fill(model)
    windows = audio.mel_windows(audio.load_speech(golden.beside("audio") / "speech.wav"))
    with torch.no_grad():
        yield "embedding", model.embed(given["mel"])
        yield "out", model(given["mel"], given["ref"], given["ratio"])
    raw = speech_to_expression(model, windows, given["beta_init"][0], scale=1.0)
    yield "loop_raw", raw[..., None]
    yield "loop_scaled", speech_to_expression(model, windows, given["beta_init"][0])[..., None]


def check_lipaint(golden: GoldenSet) -> Compared:
    model = golden.fill(LipaintNet(w_dim=512, n_exp=64))
    with torch.no_grad():
        yield "out", model(golden.golden["w"], golden.golden["exp"])
