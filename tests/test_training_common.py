"""A training that was stopped and resumed ends in the same weights as one that wasn't (killed: test_training_scale.py)."""

import json
import os
import signal

import numpy as np
import pytest
import torch
from torch import nn

from nfs_lib.errors import BadInput, CorruptWeights
from nfs_lib.training import common
from nfs_lib.training.common import Ema, Loop, numpy_rng, seed_everything, step_rng, warm_cosine
from nfs_lib.training.muon import MuonAdam, orthogonal


def train(out, steps=24, seed=5, resume=False, stop_at=None):
    """A small training with dropout (global generators), Adam and a running mean; returns its states."""
    seed_everything(seed)
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.3), nn.Linear(8, 1))
    optimiser, ema = torch.optim.AdamW(model.parameters()), Ema(model, half_life=5)
    state = {"model": model, "optimiser": optimiser, "ema": ema}
    loop = Loop("toy", steps, seed, state, out, resume, log_every=4)
    for step in loop:
        common.set_learning_rate(optimiser, warm_cosine(step, steps, peak=0.01, warmup=4))
        x = torch.randn(16, 4, generator=step_rng(seed, step)) + np.random.normal()  # noqa: NPY002
        loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
        optimiser.zero_grad()
        loss.backward()
        if step == stop_at:
            signal.raise_signal(signal.SIGINT)  # in the middle of a step
        optimiser.step()
        ema.update(model)
        loop.log(loss=loss)
    return {**model.state_dict(), **{f"ema.{k}": v for k, v in ema.state.items()}}


def lines(out):
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_interrupted_and_resumed_is_the_same_to_the_last_bit(tmp_path, capsys):
    whole = train(tmp_path / "whole")
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "two", stop_at=10)
    assert signal.getsignal(signal.SIGINT) is handler
    assert "stopped at step 11" in capsys.readouterr().err
    assert same(train(tmp_path / "two", resume=True), whole)
    assert [line["step"] for line in lines(tmp_path / "two")] == [4, 8, 12, 16, 20, 24]
    assert [line["loss"] for line in lines(tmp_path / "two")] == [line["loss"] for line in lines(tmp_path / "whole")]
    assert sorted(os.listdir(tmp_path / "two")) == ["last.pt", "log.jsonl", "tensorboard"]
    assert not same(train(tmp_path / "other", seed=6), whole)


def test_resume_when_done_does_no_step(tmp_path):
    whole = train(tmp_path / "a")
    assert same(train(tmp_path / "a", resume=True), whole)
    assert len(lines(tmp_path / "a")) == 6


def test_resume_with_another_seed_or_a_broken_file(tmp_path):
    train(tmp_path, steps=4)
    with pytest.raises(BadInput, match="seed 5, not to toy with seed 6"):
        train(tmp_path, seed=6, resume=True)
    with pytest.raises(BadInput, match="begun with --steps 4, .* not with --steps 8"):
        train(tmp_path, steps=8, resume=True)
    (tmp_path / "last.pt").write_bytes(b"no")
    with pytest.raises(CorruptWeights, match="start without --resume"):
        train(tmp_path, resume=True)


def test_a_checkpoint_holds_no_code(tmp_path):
    """It opens where torch allows nothing but tensors and plain values."""
    train(tmp_path, steps=4)
    checkpoint = torch.load(tmp_path / "last.pt", weights_only=True)
    assert {"step", "seconds", "torch_rng", "numpy_rng", "state", "seed", "part", "plan", "recent"} == set(checkpoint)
    assert checkpoint["step"] == 4


def test_the_stream_of_a_step_depends_on_seed_and_step_only():
    draws = {torch.randn(3, generator=step_rng(s, i)).sum().item() for s in range(20) for i in range(20)}
    assert len(draws) == 400
    assert torch.equal(torch.rand(5, generator=step_rng(1, 2)), torch.rand(5, generator=step_rng(1, 2)))
    assert (numpy_rng(1, 2).random(5) == numpy_rng(1, 2).random(5)).all()
    firsts = torch.stack([torch.randn(1, generator=step_rng(0, i)) for i in range(2000)]).flatten()
    assert abs(firsts.mean()) < 0.1 and abs(firsts.std() - 1) < 0.1
    assert abs(torch.corrcoef(torch.stack([firsts[1:], firsts[:-1]]))[0, 1]) < 0.1


def test_warm_cosine():
    rates = [warm_cosine(step, 1000, 2.0, warmup=100, final=0.1) for step in range(1001)]
    assert rates[0] == pytest.approx(0.02) and rates[99] == rates[100] == 2.0
    assert rates[550] == pytest.approx((2.0 + 0.2) / 2) and rates[1000] == pytest.approx(0.2)
    assert all(a >= b for a, b in zip(rates[100:], rates[101:], strict=False))


def test_ema_follows_a_constant_and_halves_a_step():
    net = nn.BatchNorm1d(1)
    ema = Ema(net, half_life=50)
    ema.updates = 10_000  # past the warm-up
    with torch.no_grad():
        net.weight.fill_(3.0)  # from 1
    net.running_mean.fill_(7.0)
    for _ in range(50):
        ema.update(net)
    assert ema.state["weight"].item() == pytest.approx(2.0, abs=1e-3)
    assert ema.state["running_mean"].item() == 7.0
    fresh = Ema(net, half_life=50)
    fresh.load_state_dict(ema.state_dict())
    assert torch.equal(fresh.state["weight"], ema.state["weight"]) and fresh.updates == ema.updates


def test_muon_adam_is_muon_on_matrices_and_adam_on_the_rest(monkeypatch):
    """Against torch's own Muon, but in float32, where that goes over to bfloat16."""
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)
    torch.manual_seed(0)
    matrix, kernel = torch.randn(6, 9), torch.randn(5, 4, 3, 3)
    bias = torch.randn(6)
    ours = [nn.Parameter(t.clone()) for t in (matrix, kernel, bias)]
    ours[1].data = ours[1].data.contiguous(memory_format=torch.channels_last)
    theirs = [nn.Parameter(t.clone()) for t in (matrix, kernel.permute(0, 2, 3, 1).flatten(1), bias)]
    optimiser = MuonAdam([ours])
    optimiser.set_rates([0.02], [0.01])
    muon = torch.optim.Muon(theirs[:2], lr=0.02, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
    adam = torch.optim.Adam(theirs[2:], lr=0.01, betas=(0.9, 0.99))
    for _ in range(3):
        gradients = [torch.randn_like(p) for p in (matrix, kernel, bias)]
        for p, q, grad in zip(ours, theirs, gradients, strict=True):
            p.grad = grad.clone()
            q.grad = (grad.permute(0, 2, 3, 1) if grad.ndim == 4 else grad).reshape(q.shape)
        for o in (optimiser, muon, adam):
            o.step()
            o.zero_grad()
    assert all(p.grad is None for p in ours[:2])
    torch.testing.assert_close(ours[0], theirs[0])
    torch.testing.assert_close(ours[1].permute(0, 2, 3, 1).flatten(1), theirs[1])
    torch.testing.assert_close(ours[2], theirs[2])
    assert (ours[1] - kernel).abs().min() > 0


def test_orthogonal_brings_all_singular_values_near_one():
    torch.manual_seed(0)
    for shape in ((40, 12), (12, 40), (20, 20)):
        g = torch.randn(shape)
        u, s, v = torch.linalg.svd(g, full_matrices=False)
        made = orthogonal(g)
        inner = torch.diagonal(u.T @ made @ v.T)                            # the same directions, other lengths
        assert torch.allclose(u @ torch.diag(inner) @ v, made, atol=1e-4)
        assert inner[s > 0.1 * s[0]].min() > 0.6 and inner.max() < 1.3


def test_muon_adam_goes_on_where_it_stopped():
    def steps(p, optimiser, numbers):
        for n in numbers:
            p.grad = torch.randn(p.shape, generator=step_rng(1, n))
            optimiser.step()

    straight, stopped = (nn.Parameter(torch.ones(5, 7)) for _ in range(2))
    a, b, c = MuonAdam([[straight]]), MuonAdam([[stopped]]), MuonAdam([[stopped]])
    for o in (a, b, c):
        o.set_rates([0.1], [0.1])
    steps(straight, a, range(4))
    steps(stopped, b, range(2))
    c.load_state_dict(b.state_dict())
    steps(stopped, c, range(2, 4))
    assert torch.equal(straight, stopped)
