"""Parity: the kit's parts run against golden numbers that the authors' own code computed.

A folder of goldens holds an `index.json`, which names its sets, their tensors and tolerances, and one folder
per set. Networks get weights by a rule (`golden.fill_by_rule`), so that a set passes only if the kit's module has
exactly the official names and shapes.

StyleNeRF's sets are kept otherwise: NAME_config.json and four files of tensors in one folder (`parity.stylenerf`); pickles
of the official code, genuine and hostile, are found by their suffix (`parity.pickles`).
"""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nfs_lib.errors import BadInput
from nfs_lib.parity import face, metrics, pickles, seen, sound, stylenerf
from nfs_lib.parity.golden import Compared, GoldenSet, Parity, compare

CHECKS: dict[str, Callable[[GoldenSet], Compared]] = {
    "audio": sound.check_audio,
    "audio2exp": sound.check_audio2exp,
    "lipaint": sound.check_lipaint,
    "syncnet": metrics.check_syncnet,
    "fid": metrics.check_fid,
    "csim": metrics.check_csim,
    "cpbd": metrics.check_cpbd,
    "align": metrics.check_align,
    "bfm": face.check_bfm,
    "bfm_convert": face.check_bfm_convert,
    "reconnet": face.check_reconnet,
    "segmenter": seen.check_segmenter,
    "pti": seen.check_pti,
}


def run(folder: str | Path, only: str | None = None) -> list[Parity]:
    """Check every golden set under `folder`, at any depth.

    only: name of a single set. Asked for by name, a set that the kit doesn't cover yet counts as failed;
    otherwise it is listed with `ok` None.

    Raises BadInput if there are no goldens under `folder`, or no set of that name.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    results = []
    for index in sorted(Path(folder).rglob("index.json")):
        content = opened(index)
        for name, entry in content["sets"].items():
            if only not in (None, name):
                continue
            if name not in CHECKS:
                results.append(Parity(name, math.nan, math.nan, None if only is None else False))
                continue
            home = index.parent / name
            tensors = home / "golden.safetensors"
            try:
                golden = GoldenSet(home, content["seed"], entry, load_file(tensors) if tensors.exists() else {})
                error, tolerance = compare(golden, CHECKS[name])
            except (OSError, LookupError, TypeError, ValueError, AttributeError, SafetensorError) as fault:
                what = f"{type(fault).__name__}: {fault}"
                raise BadInput(f"{home} or its entry in {index} is damaged ({what}); check the goldens out again") from fault
            results.append(Parity(name, error, tolerance, error <= tolerance))
    renderers = sorted({config.parent for config in Path(folder).rglob("*_config.json")})
    for home in renderers:
        results += stylenerf.check(home, only)
    pickled = sorted({path.parent for path in Path(folder).rglob("*.pkl")})
    for home in pickled:
        results += pickles.check(home, only)
    for readme in sorted(Path(folder).rglob("README.md")):  # collections in another layout
        home, name = readme.parent, readme.parent.name
        foreign = home not in (*renderers, *pickled) and not (home / "index.json").exists() and any(home.glob("*.safetensors"))
        if foreign and only in (None, name):
            results.append(Parity(name, math.nan, math.nan, None if only is None else False))
    if not results:
        wanted = f"golden set called {only}" if only else "golden sets (folders with an index.json)"
        raise BadInput(f"{folder}: there are no {wanted} here; give the folder that holds the goldens")
    return results


def opened(index: Path) -> dict[str, Any]:
    """An index.json with its seed and sets. Raises BadInput for anything else."""
    try:
        content = json.loads(index.read_text(encoding="utf-8"))
        sets = content.setdefault("sets", {})
        if isinstance(content.get("seed", 0), int) and all(isinstance(entry, dict) for entry in sets.values()):
            return {"seed": 0, **content}
    except (OSError, ValueError, RecursionError, AttributeError):
        pass
    raise BadInput(f"{index} isn't an index of golden sets; check the goldens out again")
