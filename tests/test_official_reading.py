"""Genuine files are read to the last bit, by comparison with what wrote them; damaged ones end in one of two errors."""

import json
import pickle
import random
import sys
import types
import warnings
from collections import Counter, OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy.io import loadmat, savemat
from torch import nn

from nfs_lib import parity
from nfs_lib.errors import BadInput, CorruptWeights, NfsError, UnsafeCheckpoint
from nfs_lib.official.readers import read
from nfs_lib.parity import pickles

GOLDENS = Path(__file__).parent / "goldens" / "stylenerf"


def same(ours, theirs):
    """Whether two nested values are equal, tensors by type and value."""
    if isinstance(theirs, torch.Tensor):
        return isinstance(ours, torch.Tensor) and ours.dtype == theirs.dtype and torch.equal(ours, theirs)
    if isinstance(theirs, dict):
        return list(ours) == list(theirs) and all(same(ours[key], theirs[key]) for key in theirs)
    if isinstance(theirs, list | tuple):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    return ours == theirs


# network pickles


@pytest.fixture
def authors(monkeypatch):
    """Stand-ins of what the official files refer to, so that Python's own pickle can write such files."""

    def _reconstruct_persistent_obj(meta):
        raise AssertionError("the official loader was called")

    classes = {"dnnlib.util.EasyDict": dict, "omegaconf.dictconfig.DictConfig": object,
               "omegaconf.listconfig.ListConfig": object, "omegaconf.nodes.AnyNode": object}  # fmt: skip
    made = [type(name.split(".")[-1], (base,), {"__module__": name.rsplit(".", 1)[0]}) for name, base in classes.items()]
    _reconstruct_persistent_obj.__module__ = "torch_utils.persistence"
    _reconstruct_persistent_obj.__qualname__ = "_reconstruct_persistent_obj"
    for kind in (_reconstruct_persistent_obj, *made):
        module = types.ModuleType(kind.__module__)
        setattr(module, kind.__name__, kind)
        monkeypatch.setitem(sys.modules, kind.__module__.split(".")[0], types.ModuleType("package"))
        monkeypatch.setitem(sys.modules, kind.__module__, module)
    return types.SimpleNamespace(reconstruct=_reconstruct_persistent_obj, **{kind.__name__: kind for kind in made})


def layer_class(authors):
    class Layer(nn.Module):
        """A module that is pickled as the official ones are."""

        version = 6

        def __init__(self, *inner, **arguments):
            super().__init__()
            self._init_args, self._init_kwargs = (), arguments
            self.weight = nn.Parameter(torch.randn(3, 4).T)  # not contiguous
            self.register_parameter("bias", None)
            self.register_buffer("w_avg", torch.rand(()).double())
            self.register_buffer("scratch", torch.rand(5), persistent=False)
            self.register_buffer("nothing", None)
            self.gain, self.camera = np.float64(1.5), authors.EasyDict(fov=12)
            self.inner = nn.ModuleList(inner) if inner else None

        def __reduce__(self):
            meta = {"type": "class", "version": self.version, "module_src": "raise SystemExit", "class_name": "Layer",
                    "state": dict(self.__dict__)}
            return authors.reconstruct, (meta,)

    return Layer


@pytest.fixture
def made(authors, tmp_path):
    """A function that writes a network pickle, and the class of its modules."""
    layer = layer_class(authors)

    def write(protocol=3, **networks):
        path = tmp_path / "network.pkl"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own deprecations
            content = pickle.dumps({"training_set_kwargs": {}, "augment_pipe": None, **networks}, protocol)
        path.write_bytes(content)
        return path

    return write, layer


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_network_pickle_gives_torchs_own_state_dict(made, authors, protocol):
    write, layer = made
    net, other = layer(layer(), layer(layer()), size=authors.EasyDict(a=[1, (2, None)], b="x"), gain=np.float32(0.5)), layer()
    found = read(write(protocol, G=other, D=None, G_ema=net))
    assert sorted(found) == ["G", "G_ema"]
    assert same(found["G_ema"].state_dict, net.state_dict()) and len(net.state_dict()) == 8
    assert same(found["G"].state_dict, other.state_dict())
    assert found["G_ema"].class_name == "Layer"
    assert found["G_ema"].init_kwargs == {"size": {"a": [1, [2, None]], "b": "x"}, "gain": 0.5}


def test_omegaconf_references_are_followed(made, authors):
    write, layer = made

    def node(kind, content, parent):
        made = kind()
        made.__dict__.update({"_val" if kind is authors.AnyNode else "_content": content, "_parent": parent, "_metadata": None})
        return made

    root = node(authors.DictConfig, {}, None)
    spec = node(authors.DictConfig, {}, root)
    root._content |= {"spec": spec, "sizes": node(authors.ListConfig, [], root)}
    spec._content |= {"map": node(authors.AnyNode, 8, spec), "again": node(authors.AnyNode, "${spec.map}", spec)}
    root._content["sizes"]._content.append(node(authors.AnyNode, 64, root._content["sizes"]))
    given = {"far": "${spec.again}", "near": "${.map}", "up": "${..sizes.0}", "all": "${sizes}", "plain": "$map"}
    net = layer(**{name: node(authors.AnyNode, value, spec) for name, value in given.items()}, spec=spec)
    assert read(write(G_ema=net))["G_ema"].init_kwargs == {
        "far": 8, "near": 8, "up": 64, "all": [64], "plain": "$map", "spec": {"map": 8, "again": 8}
    }  # fmt: skip
    for wrong in ("${spec.none}", "${.....map}", "a ${spec.map}", "${oc.env:HOME}", "${sizes.7}"):
        with pytest.raises(CorruptWeights, match="argument of a network"):
            read(write(G_ema=layer(width=node(authors.AnyNode, wrong, spec))))
    loop = node(authors.AnyNode, "${spec.loop}", spec)
    spec._content["loop"] = loop
    with pytest.raises(CorruptWeights, match="refer to themselves"):
        read(write(G_ema=layer(width=loop)))


def test_what_a_network_can_lack(made):
    write, layer = made
    with pytest.raises(CorruptWeights, match="none of the networks"):
        read(write(G=None, other=layer()))
    bad = layer()
    with torch.no_grad():
        bad.weight[0, 0] = torch.nan
    with pytest.raises(CorruptWeights, match="aren't finite, in weight"):
        read(write(G_ema=bad))
    nameless = layer()
    nameless._init_args = (3,)
    with pytest.raises(CorruptWeights, match="without names"):
        read(write(G_ema=nameless))
    layer.version = 7
    with pytest.warns(UserWarning, match="version"):
        read(write(G_ema=layer()))


# torch's files


def checkpoint():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    optimiser = torch.optim.Adam(net.parameters())
    net(torch.randn(5, 4)).sum().backward()
    optimiser.step()
    storage = torch.arange(24.0)
    kinds = ("float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool")
    return {
        "state_dict": net.state_dict(),
        "optimizer": optimiser.state_dict(),
        "parameter": net[0].weight,
        "views": [storage[3:9], storage.view(4, 6).T, storage.view(2, 3, 4)[:, 1:, ::2], storage[5]],
        "kinds": {name: torch.randint(0, 2, (7,)).to(getattr(torch, name)) for name in kinds},
        "empty": torch.empty(0, 3),
        "size": net[0].weight.shape,
        "device": "cpu",
        "counts": Counter({3: 1, 5: 2}),
        "nested": OrderedDict(a=(1, 2.5, None, True), b={1: "ü"}),
        "large": 2**70,
    }


@pytest.mark.parametrize("zipped", [True, False])
def test_a_checkpoint_is_what_torch_reads(tmp_path, zipped):
    path = tmp_path / "whatever.bin"  # the content decides
    torch.save(checkpoint(), path, _use_new_zipfile_serialization=zipped)
    assert same(read(path), torch.load(path, weights_only=True))


@pytest.mark.parametrize("zipped", [True, False])
def test_numpy_numbers_in_a_checkpoint(tmp_path, zipped):
    """torch's own careful mode refuses them; training scripts save losses so."""
    torch.save({"loss": np.float64(0.25), "step": np.int32(7), "done": np.bool_(True)}, tmp_path / "x.pt",
               _use_new_zipfile_serialization=zipped)
    assert read(tmp_path / "x.pt") == {"loss": 0.25, "step": 7, "done": True}


def test_a_damaged_tensor_in_a_zip_is_noticed(tmp_path):
    path = tmp_path / "x.pth"
    torch.save({"w": torch.full((100,), 3.0)}, path)
    content = bytearray(path.read_bytes())
    content[content.find(np.float32(3).tobytes() * 9) + 4] ^= 1
    path.write_bytes(content)
    with pytest.raises(CorruptWeights, match="CRC"):
        read(path)


def test_not_a_table(tmp_path):
    torch.save(torch.zeros(3), tmp_path / "x.pt")
    with pytest.raises(CorruptWeights, match="holds a Tensor, not a table"):
        read(tmp_path / "x.pt")


def test_programs_are_named_as_such(tmp_path):
    torch.save(nn.Linear(2, 2), tmp_path / "G_PTI.pt")
    with pytest.raises(UnsafeCheckpoint, match=r"G_PTI.pt: it holds a whole network \(torch.nn.modules.linear.Linear\)"):
        read(tmp_path / "G_PTI.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(nn.Linear(2, 2)), tmp_path / "script.pt")
    with pytest.raises(UnsafeCheckpoint, match="TorchScript"):
        read(tmp_path / "script.pt")


# the other kinds


@pytest.mark.parametrize("compressed", [True, False])
def test_a_matlab_file_is_what_scipy_reads(tmp_path, compressed):
    rng = np.random.default_rng(0)
    arrays = {
        "idBase": rng.normal(size=(30, 4)), "x": rng.normal(size=(2, 3, 4)).astype("f4"), "a_rather_long_name": np.eye(3),
        "tri": np.arange(9).reshape(3, 3).astype("u2"), "big": np.array([[2**40]]), "empty": np.zeros((0, 3)), "one": 5.0,
        "small": np.array([[1, 2]], "i1"), "flag": np.array([[True, False]]),
    }  # fmt: skip
    skipped = {"text": "hello", "cell": np.array([[1], ["a"]], dtype=object), "struct": {"a": 1.0}, "complex": np.array([1j])}
    savemat(tmp_path / "x.mat", arrays | skipped, do_compression=compressed)
    theirs = loadmat(tmp_path / "x.mat", mat_dtype=True, variable_names=list(arrays))
    ours = read(tmp_path / "x.mat")
    assert sorted(ours) == sorted(arrays)
    for name in arrays:
        assert np.array_equal(ours[name], theirs[name]), name
        assert ours[name].dtype == (theirs[name].dtype if name != "flag" else np.uint8)


def test_safetensors(tmp_path):
    save_file(tensors := {"a": torch.arange(3), "b": torch.rand(2, 2).half()}, tmp_path / "x.safetensors")
    assert same(dict(sorted(read(tmp_path / "x.safetensors").items())), tensors)


def test_no_such_file(tmp_path):
    for path, said in ((tmp_path / "none.pkl", "doesn't exist"), (tmp_path, "is a folder")):
        with pytest.raises(BadInput, match=said):
            read(path)


# damage


@pytest.mark.parametrize("kind", ["network", "zip", "old", "mat", "compressed mat", "safetensors"])
def test_flipped_bits_and_cuts_end_in_one_of_two_errors(tmp_path, made, kind):
    """In a tensor they may pass; in the structure never, and never is another error raised."""
    path, rng = tmp_path / "x", random.Random(0)
    if kind == "network":
        write, layer = made
        path = write(G_ema=layer(layer(), width=4))
    elif kind in ("zip", "old"):
        torch.save({"w": torch.rand(3), "n": {"v": torch.ones(2, 2)}}, path, _use_new_zipfile_serialization=kind == "zip")
    elif kind == "safetensors":
        save_file({"w": torch.rand(3), "v": torch.ones(2, 2)}, path)
    else:
        savemat(path, {"idBase": np.eye(3), "tri": np.ones((2, 2), "i4")}, do_compression=kind != "mat", appendmat=False)
    whole, refused = path.read_bytes(), 0
    read(path)
    for _ in range(150):
        damaged = bytearray(whole)
        if rng.random() < 0.3:
            del damaged[rng.randrange(len(damaged)) :]
        else:
            damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                read(path)
        except (CorruptWeights, UnsafeCheckpoint):
            refused += 1
    assert refused > 50


# parity


def test_the_official_pickles():
    results = {result.name: result for result in pickles.check(GOLDENS)}
    assert sorted(results) == ["malicious_deep", "malicious_module_src", "malicious_storage", "malicious_system",
                               "official_omegaconf"]
    assert all(result.ok is True and result.error == 0 for result in results.values())
    network = read(GOLDENS / "official_omegaconf.pkl")
    for name, value in network["G"].state_dict.items():  # their note: parameters 1.01 times those of G_ema, buffers the same
        mean = network["G_ema"].state_dict[name]
        assert torch.allclose(value, mean * 1.01, rtol=1e-6) or torch.equal(value, mean)
    assert [result.name for result in parity.run(GOLDENS.parent, only="malicious_deep")] == ["malicious_deep"]


def test_parity_notices_wrong_numbers_and_arguments(tmp_path):
    (path := tmp_path / "x.pkl").write_bytes((GOLDENS / "official_omegaconf.pkl").read_bytes())
    arguments = json.loads((GOLDENS / "official_omegaconf_init_kwargs_expected.json").read_text())
    network = read(path)

    def checked():
        return pickles.check(tmp_path)[0]

    assert checked().ok is None
    save_file(network["D"].state_dict, tmp_path / "some_D.safetensors")
    save_file(network["G_ema"].state_dict, tmp_path / "some_G.safetensors")
    (tmp_path / "x_init_kwargs_expected.json").write_text(json.dumps(arguments))
    assert checked().ok is True
    save_file(network["G_ema"].state_dict, tmp_path / "x_G_expected.safetensors")
    assert checked().ok is False and 0 < checked().error < np.inf
    (tmp_path / "x_G_expected.safetensors").unlink()
    arguments["D"]["channel_max"] += 1
    (tmp_path / "x_init_kwargs_expected.json").write_text(json.dumps(arguments))
    assert checked().ok is False
    arguments["D"]["channel_max"] -= 1
    (tmp_path / "x_init_kwargs_expected.json").write_text(json.dumps(arguments))
    save_file({"w": torch.ones(2)}, tmp_path / "some_D.safetensors")
    assert checked().ok is False  # no file has the discriminator's names


def test_parity_of_a_hostile_pickle_needs_a_refusal(tmp_path, monkeypatch):
    (tmp_path / "malicious_x.pkl").write_bytes(b"")
    assert pickles.check(tmp_path)[0].ok is True
    monkeypatch.setattr(pickles, "read", lambda path: {"G": 1})
    assert pickles.check(tmp_path)[0].ok is False
    monkeypatch.setattr(pickles.tempfile, "gettempdir", lambda: str(tmp_path))

    def run(path):
        (tmp_path / "PWNED").touch()
        raise NfsError

    monkeypatch.setattr(pickles, "read", run)
    assert pickles.check(tmp_path)[0].ok is False
