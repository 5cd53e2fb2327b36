"""Hostile and broken files are refused, quickly, in little memory, and nothing in them is run.

Each file is read in a process of its own kind: one child reads them all, with an address space that may grow by 1 GB, and notes
what came of each and how long it took.
"""

import io
import json
import pickle
import pickletools
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

GOLDENS = Path(__file__).parent / "goldens" / "stylenerf"
CHILD = """
import json, resource, sys, time
from pathlib import Path
import zipfile, torch, safetensors.torch
from nfs_lib.official import matfile, networks, readers, tensors
from nfs_lib.official.importing import import_file
size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + 2**30, size + 2**30))
out = {}
for path in sorted(Path(sys.argv[1]).iterdir()):
    start = time.process_time()
    try:
        if path.name.startswith("import"):
            import_file(path, sys.argv[2])
        readers.read(path)
        result = ["read", ""]
    except BaseException as error:
        result = [type(error).__name__, str(error)]
    peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))  # kB, so far
    out[path.name] = [*result, time.process_time() - start, peak * 1024]
print(json.dumps(out))
"""


class Calls:
    """Unpickled by pickle, it calls a function."""

    def __init__(self, function, *args):
        self.function, self.args = function, args

    def __reduce__(self):
        return self.function, self.args


def touch(marker):
    import os

    return Calls(os.system, f"touch {marker}")


def network(content, protocol=3):
    """The bytes of a network pickle with something in it."""
    return pickle.dumps({"G": None, "D": None, "G_ema": content}, protocol=protocol)


def op(*pieces):
    """A pickle by hand: what `pieces` push becomes G_ema."""
    return b"\x80\x04}X\x05\0\0\0G_ema" + b"".join(pieces) + b"s."


def text(string):
    return b"X" + struct.pack("<I", len(string)) + string.encode()


def name(module, attribute):
    return text(module) + text(attribute) + b"\x93"


def saved(content, **options):
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


def archive(entries, compression=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as z:
        for entry, content in entries:
            z.writestr(entry, content)
    return file.getvalue()


def literal(value):
    """Opcodes that push a JSON value, without the memo."""
    return pickletools.optimize(pickle.dumps(value, 2))[2:-1]


def storage(count, key="0", kind="FloatStorage"):
    """Opcodes that push what a persistent id stands for."""
    return b"(" + text("storage") + name("torch", kind) + text(key) + text("cpu") + long(count) + b"tQ"


def long(number):
    content = number.to_bytes(17, "little", signed=True)
    return b"\x8a" + bytes([len(content)]) + content


def tensor(count, size, stride, offset=0):
    numbers = b"".join(b"(" + b"".join(map(long, values)) + b"t" for values in (size, stride))
    return name("torch._utils", "_rebuild_tensor_v2") + b"(" + storage(count) + long(offset) + numbers + b"\x89NtR"


def torch_zip(pickled, data=b"sixteen bytes..."):
    return archive([("a/data.pkl", b"\x80\x02}" + text("x") + pickled + b"s."), ("a/byteorder", b"little"), ("a/data/0", data)])


def matlab(elements, version=b"MATLAB 5.0 MAT-file"):
    return version.ljust(124) + b"\0\1IM" + b"".join(elements)


def element(kind, content, length=None):
    return struct.pack("<II", kind, len(content) if length is None else length) + content


def inflating(length, **options):
    """A compressed element of an array with so many bytes of zeros."""
    side = length // 8
    packer = zlib.compressobj(1)
    start = matrix((1, options.pop("count", side)), b"", **options)[:-8]
    stored = struct.pack("<II", options.get("stored", 9), length)
    pieces = [packer.compress(element(14, start + stored, len(start) + 8 + length))]
    pieces += [packer.compress(b"\0" * 2**20) for _ in range(length // 2**20)]
    return element(15, b"".join(pieces) + packer.flush())


def matrix(shape, values, stored=9, kind=6, title=b"idBase\0\0"):
    flags, sizes = struct.pack("<II", kind, 0), struct.pack(f"<{len(shape)}i", *shape)
    sizes = element(5, sizes) + b"\0" * (-len(sizes) % 8)
    return element(6, flags) + sizes + element(1, title[:6].ljust(8, b"\0"), 6) + element(stored, values)


def hostile_files(marker):
    """name → content of files that must be refused."""
    command, persistent = f"touch {marker}", name("torch_utils.persistence", "_reconstruct_persistent_obj")
    import functools
    import operator
    import os

    calls = {
        "system": touch(marker),
        "eval": Calls(eval, f"__import__('os').system({command!r})"),
        "exec": Calls(exec, f"import os; os.system({command!r})"),
        "module": Calls(__import__, "os"),
        "getattr": Calls(getattr, Calls(__import__, "os"), "system"),
        "nested": Calls(list, [Calls(list, [touch(marker)])]),
        "partial": Calls(functools.partial(os.system, command)),
        "attrgetter": Calls(operator.attrgetter("system"), Calls(__import__, "os")),
        "popen": Calls(subprocess.Popen, ["touch", str(marker)]),
        "numpy_objects": np.array([touch(marker)], dtype=object),
        "bytearray": Calls(bytearray, 2**40),
        "range": Calls(list, range(10**9)),
    }
    files = {f"{key}_{protocol}.pkl": network(value, protocol) for key, value in calls.items() for protocol in (2, 3, 4, 5)}
    files |= {f"{key}_0.pkl": network(value, 0) for key, value in calls.items()}
    files |= {f"{key}.pth": saved({"state_dict": value}) for key, value in calls.items()}
    old = {"_use_new_zipfile_serialization": False}
    files |= {f"{key}_old.pth": saved({"state_dict": value}, **old) for key, value in calls.items()}
    inside = b"(" + text("type") + text("class") + text("version") + b"K\6" + text("class_name") + text("G")
    inside += text("state") + b"}("
    kwargs = {
        "cycle": b"}\x94" + text("a") + b"h\0s",  # a table within itself
        "laughter": b"](K\1e\x940" + b"".join(b"](" + b"h%c" % i * 9 + b"e\x940" for i in range(30)) + b"h\x1e",
        "deep": b"]" * 100_000 + b"a" * 99_999,
        "function": name("typing", "Any") + b")R",
        "reference": name("omegaconf.nodes", "AnyNode") + b")\x81}" + text("_val") + text("${oc.env:HOME}") + b"sb",
        "object": name("copyreg", "_reconstructor") + b"(" + name("os", "_wrap_close") + name("builtins", "object") + b"NtR",
    }
    weights = text("_parameters") + b"}" + text("_buffers") + b"}" + text("w")
    blob = saved(torch.zeros(4).untyped_storage(), **old)
    one = name("torch._utils", "_rebuild_tensor_v2") + b"(" + name("torch.storage", "_load_from_bytes")
    one += b"B" + struct.pack("<I", len(blob)) + blob + b"\x85RK\0K\4\x85K\1\x85\x89NtR"
    files |= {
        f"kwargs_{key}.pkl": op(persistent, b"}", inside, text("_init_kwargs") + b"}" + text("k") + value + b"s" + weights + one
                                + b"s" + text("_modules") + b"}u" + b"u\x85R")
        for key, value in kwargs.items()
    }
    files |= {
        "dotted.pkl": op(name("collections", "OrderedDict.__init__"), b")R"),
        "dunder.pkl": op(name("builtins", "__build_class__")),
        "build_on_class.pkl": op(name("collections", "OrderedDict"), b"N}", text("update"), text("x"), b"s\x86b"),
        "setstate.pkl": op(b"}}", text("__setstate__"), name("os", "system"), b"sb", text(command), b"b"),
        "inst.pkl": op(b"(", text(command), b"ios\nsystem\n"),
        "obj.pkl": op(b"(", name("os", "system"), text(command), b"o"),
        "newobj_ex.pkl": op(name("collections", "OrderedDict"), b")}\x92"),
        "extension.pkl": op(b"\x82\1"),
        "persid.pkl": op(b"Pos.system\n"),
        "binpersid.pkl": op(text("x"), b"Q"),
        "buffer.pkl": op(b"\x97"),
        "numpy_scalar.pkl": op(name("numpy", "dtype"), text("O8"), b"\x89\x88\x87R"),
        "memo.pkl": op(b"Nr\xff\xff\xff\xff", *[b"r" + struct.pack("<I", 2**32 - i) for i in range(1, 10000)]),
        "memo_absent.pkl": op(b"j\xff\xff\xff\xff"),
        "bytes8.pkl": op(b"\x8e", struct.pack("<Q", 2**40), b"x"),
        "bytearray8.pkl": op(b"\x96", struct.pack("<Q", 2**40), b"x"),
        "text8.pkl": op(b"\x8d", struct.pack("<Q", 2**60), b"x"),
        "bytes4.pkl": op(b"B\xff\xff\xff\xff", b"x"),
        "long4.pkl": op(b"\x8b", struct.pack("<i", 2**31 - 1), b"x"),
        "long.pkl": op(b"\x8b", struct.pack("<i", 2**20), b"\x7f" * 2**20),
        "digits.pkl": op(b"I" + b"9" * 10**6 + b"\n"),
        "lists.pkl": op(b"]" * 190_000 + b"a" * 189_999),
        "tuples.pkl": op(b")" + b"\x85" * 300_000),
        "tuple_key.pkl": op(b"}", b")" + b"\x85" * 300_000, b"Ns"),
        "nodes.pkl": op((name("omegaconf.base", "Metadata") + b")\x81") * 60_000, b"b" * 59_999),
        "steps.pkl": op(b"N0" * 2_000_000, b"N"),
        "marks.pkl": op(b"(" * 2_000_000, b"N"),
        "pops.pkl": op(b"0" * 100),
        "copies.pkl": op(b"](" + b"".join(b"K%cN\x86" % (i % 250) for i in range(50_000)) + b"e\x94",
                         (name("collections", "OrderedDict") + b"h\0\x85R0") * 5000, b"N"),
        "encoded.pkl": op(text("x" * 10**6) + b"\x94", (name("_codecs", "encode") + b"(h\0" + text("latin1") + b"tR") * 3000),
        "colliding.pkl": op(b"}(" + b"".join(long(i * (2**61 - 1)) + b"N" for i in range(1, 50_000)) + b"u"),
        "nested_storage.pkl": network(Calls(torch.storage._load_from_bytes, pickle.dumps(touch(marker)))),
        "storage_in_storage.pkl": network(Calls(torch.storage._load_from_bytes, saved(
            Calls(torch.storage._load_from_bytes, blob), **old))),
        "no_stop.pkl": b"\x80\x04}",
        "empty.pkl": b"",
        "zeros.pkl": b"\0" * 1000,
        "text.pth": b"<html>Not found</html>",
        "stride.pth": torch_zip(tensor(4, (2**40,), (0,))),
        "expanded.pth": torch_zip(tensor(4, (2, 2, 2), (0, 0, 1))),
        "beyond.pth": torch_zip(tensor(4, (2, 2), (4, 1))),
        "offset.pth": torch_zip(tensor(4, (2,), (1,), 2**62)),
        "negative.pth": torch_zip(tensor(4, (2,), (-1,), 3)),
        "dimensions.pth": torch_zip(tensor(4, (1,) * 1000, (1,) * 1000)),
        "count.pth": torch_zip(tensor(2**40, (2,), (1,))),
        "many_views.pth": torch_zip(b"](" + tensor(2**22, (2**22,), (1,)) * 2000 + b"e", b"\0" * 2**24),
        "absent_storage.pth": torch_zip(storage(4, "7")),
        "other_kind.pth": torch_zip(storage(2, "0", "LongStorage") + b"0" + storage(4)),
        "zip_bomb.pth": archive([("a/data.pkl", b"\0" * 2**28)], zipfile.ZIP_DEFLATED),
        "script.pt": archive([("a/data.pkl", b"\x80\x02}."), ("a/constants.pkl", b""), ("a/code/__torch__.py", b"")]),
        "up.pth": archive([("a/data.pkl", b"\x80\x02}."), ("a/../../x", b"")]),
        "absolute.pth": archive([("a/data.pkl", b"\x80\x02}."), ("/etc/x", b"")]),
        "drive.pth": archive([("a/data.pkl", b"\x80\x02}."), ("C:x", b"")]),
        "two_pickles.pth": archive([("a/data.pkl", b"\x80\x02}."), ("b/data.pkl", b"\x80\x02}.")]),
        "no_pickle.pth": archive([("a/x", b"")]),
        "list.pth": archive([("a/data.pkl", b"\x80\x02].")]),
        "directory.pth": b"PK\3\4PK\1\2" + b"\0" * 2**25 + b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 9, 9, 2**25 + 4, 4, 0),
        "no_end.pth": b"PK\3\4" + b"\0" * 100,
        "bomb.mat": matlab([inflating(2**29)]),
        "bombs.mat": matlab([inflating(2**27)] * 5),
        "widened.mat": matlab([inflating(2**26, stored=2, count=2**26)] * 2),
        "sizes.mat": matlab([element(14, matrix((2**20, 2**11), b"\0" * 64))]),
        "length.mat": matlab([element(14, b"\0" * 64, 2**32 - 1)]),
        "inner.mat": matlab([element(14, matrix((1, 8), b"\0" * 64)[:-60])]),
        "hdf5.mat": matlab([], b"MATLAB 7.3 MAT-file"),
        "hdf5.h5": b"\x89HDF\r\n\x1a\n" + b"\0" * 512,
        "version4.mat": b"\0\0\0\0" + struct.pack("<IIII", 2**20, 2**20, 0, 2) + b"x\0",
        "header.safetensors": struct.pack("<Q", 2**40) + b"{",
        "nested.safetensors": struct.pack("<Q", 10**6) + b"{" * 10**6,
        "shape.safetensors": struct.pack("<Q", 68)
        + b'{"x":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4]}}  \0\0\0\0',
        "overlap.safetensors": struct.pack("<Q", 112) + b'{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"y":{"dtype":'
                               b'"F32","shape":[1],"data_offsets":[0,4]}}'.ljust(112) + b"\0\0\0\0",
    }  # fmt: skip
    wrong = {"layers": {"mapping_kwargs": {"num_layers": 10**9}}, "size": {"w_dim": 10**9}, "text": {"w_dim": "many"},
             "blocks": {"synthesis_kwargs": {"foreground_kwargs": {"n_blocks": 10**9}}}}  # fmt: skip
    for key, options in wrong.items():
        arguments = json.loads((GOLDENS / "official_omegaconf_init_kwargs_expected.json").read_text())["G_ema"]
        arguments |= {name: arguments[name] | value if isinstance(value, dict) else value for name, value in options.items()}
        given = text("_init_kwargs") + b"}(" + b"".join(text(name) + literal(value) for name, value in arguments.items()) + b"u"
        files[f"import_{key}.pkl"] = op(persistent, b"}", inside, given + weights + one + b"s" + text("_modules") + b"}uu\x85R")
    files["module.pt"] = saved(torch.nn.Linear(2, 2))
    files["module_old.pt"] = saved(torch.nn.Linear(2, 2), **old)
    good = {"w": torch.arange(6.0), "v": torch.ones(2, 3)}
    for cut in (1, 20, 100, 300):
        files[f"cut_{cut}.pth"] = saved(good)[:-cut]
        files[f"cut_{cut}_old.pth"] = saved(good, **old)[:-cut]
    return files


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    """Contents of the files; what came of each (kind of error, message, seconds, peak memory until then); the markers."""
    folder, marker = tmp_path_factory.mktemp("hostile"), tmp_path_factory.mktemp("marker") / "FIRED"
    theirs = Path("/tmp/PWNED")  # what the recorded ones would touch
    theirs.unlink(missing_ok=True)
    files = hostile_files(marker)
    files |= {path.name: path.read_bytes() for path in GOLDENS.glob("malicious*.pkl")}
    for key, content in files.items():
        (folder / key).write_bytes(content)
    (folder / "genuine.pkl").write_bytes((GOLDENS / "official_omegaconf.pkl").read_bytes())
    command = [sys.executable, "-c", CHILD, str(folder), str(folder.parent / "imported")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return files, json.loads(done.stdout), [marker, theirs]


def test_the_commands_do_fire_with_the_ordinary_pickle(tmp_path):
    for number, protocol in enumerate((0, 2, 5)):
        marker = tmp_path / str(number)
        pickle.loads(network(touch(marker), protocol))
        assert marker.exists()


def test_all_are_refused_and_nothing_is_run(outcome):
    files, results, markers = outcome
    accepted = {key: results[key][:2] for key in files if results[key][0] not in ("UnsafeCheckpoint", "CorruptWeights")}
    assert not accepted
    assert not any(marker.exists() for marker in markers)
    assert results["genuine.pkl"][0] == "read"


def test_each_takes_little_time_and_memory(outcome):
    _, results, _ = outcome
    assert not {key: seconds for key, (_, _, seconds, _) in results.items() if seconds > 5}
    assert not {key: peak for key, (*_, peak) in results.items() if peak > 2**30}
