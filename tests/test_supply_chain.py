"""What the kit is made of: packages locked by hash, licences, a bill of materials; and nothing private in what is shown."""

import json
import re
import runpy
import subprocess
import sys
import zipfile
from email.message import Message
from hashlib import sha256
from importlib import metadata
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from license_expression import get_spdx_licensing
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from nfs_lib import cli, licences
from nfs_lib.licences import ALLOWED, ASSETS, LOCKS, READ, Terms

ROOT = Path(__file__).parents[1]
PROJECT = pytest.importorskip("tomllib", reason="needs Python 3.11").loads((ROOT / "pyproject.toml").read_text())
PIN = r"==[\w.+!]+(\s+--hash=sha256:[0-9a-f]{64})+\s*"
# what the lock files are for
PLACE = {"python_version": "3.11", "python_full_version": "3.11.7", "sys_platform": "linux", "platform_system": "Linux",
         "platform_machine": "x86_64", "os_name": "posix", "implementation_name": "cpython",
         "platform_python_implementation": "CPython"}  # fmt: skip


# ---- locked packages


def pins(name: str) -> dict[str, str]:
    """Package to all that stands behind its name in a lock file; lines that are no pin raise."""
    lines = [line for line in (ROOT / name).read_text().replace("\\\n", " ").splitlines() if not line.lstrip().startswith("#")]
    return dict(re.fullmatch(r"([\w.-]+)(==.*)", line).groups() for line in lines if line.strip())


@pytest.mark.parametrize("name", LOCKS)
def test_every_package_is_pinned_by_version_and_hash(name):
    assert {package for package, rest in pins(name).items() if not re.fullmatch(PIN, rest)} == set(), "run `make lock`"
    assert ("torch" in pins(name)) == (name == "requirements-torch.lock")


def needs(requirement: Requirement) -> list[Requirement]:
    """What a package asks for on Linux x86-64 with Python 3.11; of torch, what each of its builds does."""
    if requirement.name == "torch":
        (torch,) = (entry for entry in PROJECT["tool"]["uv"]["dependency-metadata"] if entry["name"] == "torch")
        return [Requirement(text) for text in torch["requires-dist"]]
    asked = [Requirement(text) for text in metadata.requires(requirement.name) or ()]
    extras = {"", *requirement.extras}
    return [r for r in asked if not r.marker or any(r.marker.evaluate({**PLACE, "extra": extra}) for extra in extras)]


def closure(requirements: list[str]) -> dict[str, list[Requirement]]:
    """Every package that these need, directly or not, with all that is asked of its version."""
    found, waiting, seen = {}, [Requirement(text) for text in requirements], set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        found.setdefault(name, []).append(requirement)
        if (key := (name, frozenset(requirement.extras))) not in seen:
            seen.add(key)
            waiting += needs(requirement)
    return found


def test_the_lock_holds_what_pyproject_asks_for_and_nothing_else():
    extras = PROJECT["project"]["optional-dependencies"]
    asked = closure(PROJECT["project"]["dependencies"] + extras["notebooks"] + extras["test"])
    locked = pins("requirements.lock") | pins("requirements-torch.lock")
    assert asked.keys() ^ locked.keys() == set(), "run `make lock`"
    versions = {name: rest.split()[0].removeprefix("==") for name, rest in locked.items()}
    pairs = [(r, versions[name]) for name, requirements in asked.items() for r in requirements]
    assert [f"{r}, locked: {version}" for r, version in pairs if not r.specifier.contains(version, prereleases=True)] == []


def test_the_two_locks_agree_and_the_second_has_what_training_asks_for():
    main, train = pins("requirements.lock"), pins("requirements-train.lock")
    assert {name for name in main.keys() & train.keys() if main[name] != train[name]} == set()
    for requirement in map(Requirement, PROJECT["project"]["optional-dependencies"]["train"]):
        assert requirement.specifier.contains(train[requirement.name].split()[0].removeprefix("=="))


@pytest.fixture
def wheel(tmp_path):
    """A package of one empty module."""
    path = tmp_path / "parcel-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("parcel.py", "")
        for name, text in {"METADATA": "Metadata-Version: 2.1\nName: parcel\nVersion: 1.0\nRequires-Dist: more\n",
                           "WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n", "RECORD": ""}.items():
            archive.writestr(f"parcel-1.0.dist-info/{name}", text)  # fmt: skip
    return path


def test_make_setup_takes_the_locked_file_and_no_other(wheel, tmp_path):
    """With make's own call of pip: a file of another hash and a line without one are refused, and no dependency slips in."""
    said = subprocess.run(["make", "-nB", "setup"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    (call,) = re.findall(r"-m pip install (.*) -r requirements\.lock", said)

    def install(line: str) -> subprocess.CompletedProcess:
        (tmp_path / "lock").write_text(line + "\n")
        command = [sys.executable, "-m", "pip", "install", *call.split(), "--no-index", "--find-links", str(tmp_path),
                   "--target", str(tmp_path / "there"), "-r", str(tmp_path / "lock")]  # fmt: skip
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    digest = sha256(wheel.read_bytes()).hexdigest()
    refused = install(f"parcel==1.0 --hash=sha256:{'0' * 64}")
    assert refused.returncode and "DO NOT MATCH THE HASHES" in refused.stderr
    assert install("parcel==1.0").returncode
    assert not (tmp_path / "there").exists()
    assert install(f"parcel==1.0 --hash=sha256:{digest}").returncode == 0
    assert (tmp_path / "there" / "parcel.py").is_file()


# ---- licences


@pytest.fixture(scope="module")
def table():
    return licences.table()


def test_every_licence_is_known_and_no_copyleft_is_without_a_reason(table):
    assert [licences.line(row) for row in table if not row.well] == []
    packages = [row for row in table if row.kind == "package"]
    assert {row.name for row in packages} == {name for lock in LOCKS for name in pins(lock)}
    assert {*ALLOWED, *READ} - {row.name for row in packages} == set(), "no longer locked"


def test_licences_are_spdx_expressions(table):
    """As another reader has it; but for "BSD" where a package doesn't say which."""
    spdx = get_spdx_licensing()
    for row in table:
        if row.kind != "paper world" and row.licence != "no terms stated":
            assert spdx.validate(re.sub(r"\bBSD(?!-)", "BSD-3-Clause", row.licence)).errors == [], row


@pytest.mark.parametrize(
    ("fields", "licence"),
    [
        ({"License-Expression": "MIT AND PSF-2.0", "License": "other"}, "MIT AND PSF-2.0"),
        ({"License": "BSD 3-Clause License\n\nCopyright (c) somebody\nAll rights reserved."}, "BSD-3-Clause"),
        ({"License": "see LICENSE", "Classifier": "License :: OSI Approved :: MIT License"}, "MIT"),
        ({"Classifier": "License :: OSI Approved"}, ""),
        ({"License": "UNKNOWN"}, ""),
        ({}, ""),
    ],
)
def test_licence_is_read_from_metadata(fields, licence):
    message = Message()
    for key, value in fields.items():
        message[key] = value
    assert licences.said_by(message) == licence


@pytest.mark.parametrize(
    ("kind", "name", "licence", "well"),
    [
        ("package", "parcel", "MIT", True),
        ("package", "parcel", "", False),
        ("asset", "parcel", "", False),
        ("package", "parcel", "GPL-3.0-only", False),
        ("package", "parcel", "MIT AND LGPL-2.1-or-later", False),
        ("package", "parcel", "CC-BY-SA-4.0", False),
        ("package", "soxr", "LGPL-2.1-or-later", True),
    ],
)
def test_unknown_licences_and_copyleft_are_found(kind, name, licence, well):
    row = Terms(kind, name, "1.0", licence, "")
    assert row.well == well and ("<-" in licences.line(row)) == (not well)


def test_a_package_that_nothing_is_known_of_is_found():
    assert not licences.package("no-such-package", "1.0").well


COPYLEFT_LIBRARIES = re.compile(r"lib(?:gfortran|quadmath|gomp|x264|x265|avcodec|sndfile|zmq|espeak-ng|mpv|gmp|readline)\b")


def test_copyleft_libraries_inside_wheels_are_named(table):
    """What lies in the installed wheels, whatever their metadata says."""
    holders = set()
    for row in table:
        try:
            files = metadata.files(row.name) if row.kind == "package" else ()
        except metadata.PackageNotFoundError:
            continue
        if any(COPYLEFT_LIBRARIES.match(file.name) for file in files or ()):
            holders.add(row.name)
    assert {"av", "numpy", "scipy", "pyzmq"} <= holders
    assert {row.name for row in table if row.name in holders and not licences.COPYLEFT.search(row.licence)} == set()


def test_every_shipped_file_has_its_terms():
    files = [str(path.relative_to(ROOT)) for path in (ROOT / "data").rglob("*") if path.is_file()]
    assert len(files) > 30
    assert [name for name in files if not name.startswith((*ASSETS, "data/weights/"))] == []


def test_doctor_lists_licences(capsys, tmp_path):
    out = tmp_path / "licences.json"
    assert cli.main(["doctor", "--licences", "--json", str(out)]) == 0
    rows, said = json.loads(out.read_text()), capsys.readouterr().out.splitlines()
    assert len(rows) == len(said) > 150 and {"kind", "name", "version", "licence", "note"} == rows[0].keys()
    assert any(line.startswith("paper world  ffhq_1024.pkl") and "non-commercial" in line for line in said)
    assert cli.main(["doctor", "--json", str(out)]) == 2
    assert "--licences" in capsys.readouterr().err


def test_without_a_checkout_the_message_says_so(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(licences, "ROOT", tmp_path)
    assert cli.main(["doctor", "--licences"]) == 2
    assert "checkout" in capsys.readouterr().err


# ---- bill of materials


def test_the_bill_of_materials_is_valid_and_lists_every_locked_package(tmp_path):
    out = tmp_path / "build" / "sbom.json"
    runpy.run_path(str(ROOT / "scripts" / "make_sbom.py"))["main"](out)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(out.read_text()) is None
    components = json.loads(out.read_text())["components"]
    packages = {c["name"]: c for c in components if c["type"] == "library"}
    locked = {name: rest for lock in LOCKS for name, rest in pins(lock).items()}
    assert packages.keys() == locked.keys()
    for name, found in packages.items():
        purl = PackageURL.from_string(found["purl"])
        assert (purl.type, purl.name, f"=={purl.version}") == ("pypi", name, locked[name].split()[0])
        assert purl.version == found["version"] and found["licenses"]
        (files,) = found["externalReferences"]
        assert sorted(h["content"] for h in files["hashes"]) == sorted(re.findall(r"sha256:(\w+)", locked[name]))
    weights = {c["name"]: c["hashes"][0]["content"] for c in components if c["type"] == "machine-learning-model"}
    assert weights["open/generator"] == sha256((ROOT / "data/weights/open/generator.safetensors").read_bytes()).hexdigest()


# ---- nothing private, and no script, in what is shown

PRIVATE = {
    "path": r"(?<![\w.:/])/(?:home|root|Users|tmp|work|mnt|private|opt/\w+)/[\w.]|[A-Z]:\\{1,2}Users|site-packages",
    "address": r"[\w.+-]+@[\w-]+\.[a-z]{2,}\b",
    "token": r"\b(?:gh[pousr]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{15,}|hf_[A-Za-z]{20,}|sk-[\w-]{20,}|AKIA[0-9A-Z]{16}"
    r"|AIza[\w-]{30,}|xox[abprs]-[\w-]{10,}|npm_\w{30,}|pypi-Ag[\w-]{20,}|eyJ[\w-]{10,}\.eyJ[\w-]{10,})"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----",
    "secret": r"(?i)\b(?:password|passwd|secret|api_?key|access_?token|auth_?token)\b['\"]?\s*[:=]\s*['\"]?[\w/+-]{8,}",
}
SCRIPT = {
    "script": r"(?i)<\s*(?:script|iframe|object|embed)\b|javascript:|(?:application|text)/(?:x-)?(?:java|ecma)script",
    "handler": r"(?i)<[^>]*\son[a-z]+\s*=",
}


def strings(node, key: str = ""):
    """Every key and text of a notebook, pictures and base64 left out."""
    if isinstance(node, dict):
        for name, value in node.items():
            yield name
            yield from strings(value, name)
    elif isinstance(node, list) and all(isinstance(item, str) for item in node):
        yield from strings("".join(node), key)
    elif isinstance(node, list):
        for item in node:
            yield from strings(item, key)
    elif isinstance(node, str) and not key.startswith(("image/p", "image/j")) and key != "bdata":
        yield re.sub(r"base64,[\w+/=\s]+", "base64,", node)


def exposed(text: str, patterns: dict[str, str]) -> list[str]:
    """What is found, with its kind."""
    return [f"{kind}: {found[0]!r}" for kind, pattern in patterns.items() for found in re.finditer(pattern, text)]


def notebook_faults(notebook: dict) -> list[str]:
    return [fault for text in strings(notebook) for fault in exposed(text, PRIVATE | SCRIPT)]


NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_shows_no_path_token_address_or_script(path):
    assert notebook_faults(json.loads(path.read_text())) == []


def shown():
    """The text files that a reader of the repository sees, programs apart."""
    globs = ("*.md", "*.toml", "*.yml", "*.lock", "Makefile", ".ci/run", "docs/**/*.md", "notebooks/*.md", "figures/*.csv",
             "data/**/*.md", "data/**/*.txt", "data/**/*.csv", "data/**/*.json", "tests/goldens/**/*.md")
    return sorted(path for pattern in globs for path in ROOT.glob(pattern))  # fmt: skip


def test_readmes_data_and_build_files_show_no_path_token_or_address():
    files = shown()
    assert len(files) > 30
    assert {str(path.relative_to(ROOT)): faults for path in files if (faults := exposed(path.read_text(), PRIVATE))} == {}


def output(**data):
    return {"cells": [{"cell_type": "code", "source": [], "outputs": [{"output_type": "display_data", "data": data}]}]}


PLANTED = {
    "path in a source": {"cells": [{"cell_type": "code", "source": ["a = 1\n", "open('/home/ada/me.png')"]}]},
    "path in markdown": {"cells": [{"cell_type": "markdown", "source": "see C:\\Users\\ada"}]},
    "path in an output": output(**{"text/plain": ["'/root/", "kit/talk.mp4'"]}),
    "path in metadata": {"metadata": {"papermill": {"input": "/tmp/a.ipynb"}}},
    "path in a traceback": {"cells": [{"outputs": [{"traceback": ["File /x/lib/python3.11/site-packages/torch/a.py"]}]}]},
    "address": output(**{"text/html": "<p>ada.lovelace@mail.example.org</p>"}),
    "GitHub token": {"cells": [{"source": "t = 'gh" + "p_" + "a1B2" * 9 + "'"}]},
    "hub token": {"cells": [{"source": "login('hf" + "_" + "aBcD" * 8 + "')"}]},
    "cloud key": output(**{"text/plain": "AKIA" + "ABCDEFGH01234567"}),
    "private key": {"metadata": {"key": "-----BEGIN RSA PRIVATE KEY" + "-----"}},
    "password": {"cells": [{"source": 'connect(password="correct-horse")'}]},
    "script": output(**{"text/html": ["<div></div>", "<script>alert(1)</script>"]}),
    "script as a type of its own": output(**{"application/javascript": "alert(1)"}),
    "frame": output(**{"text/html": "<iframe src='https://example.org'></iframe>"}),
    "handler": output(**{"text/html": "<img src=x onerror=alert(1)>"}),
    "link that is a script": {"cells": [{"cell_type": "markdown", "source": "[go](javascript:alert(1))"}]},
    "handler in a drawing": output(**{"image/svg+xml": "<svg onload='alert(1)'/>"}),
}


@pytest.mark.parametrize("name", PLANTED)
def test_what_is_planted_is_found(name):
    assert notebook_faults(PLANTED[name]) != []


def test_what_is_harmless_is_not_found():
    harmless = {"image/png": "/home/ada" * 9, "text/plain": "see https://example.org/home/ada, a/tmp/b, x@y, 1/2, on = 3"}
    assert notebook_faults(output(**harmless, **{"text/html": "<img src='data:image/png;base64,/root/abc='>"})) == []
