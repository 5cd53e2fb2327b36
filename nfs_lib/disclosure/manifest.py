"""The signed manifest (C2PA 2, https://c2pa.org/specifications): what made the video, from what; read back and checked."""

import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from nfs_lib import __version__
from nfs_lib.disclosure import Signs
from nfs_lib.disclosure.certificates import KIT, own_credentials, throwaway_credentials
from nfs_lib.errors import NfsError
from nfs_lib.paths import digest
from nfs_lib.writing import unsigned

MAKING = "org.nerffacespeech.making"                 # the kit's own assertion
SYNTHETIC = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
SETTINGS = {"version": 1, "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False},     # nothing goes over the net
            "builder": {"thumbnail": {"enabled": False}}}  # fmt: skip


class Unsigned(NfsError):
    """A video's manifest can't be signed, so the video isn't written."""


class Manifest(NamedTuple):
    """What `read` found. state: "absent", "valid", "expired" (only the certificate's time is over) or "tampered"; signer: of
    its certificate; trusted: whether somebody known vouches for that; made: the kit's own assertion, None if another tool
    signed; faults: what doesn't fit, in C2PA's words."""

    state: str
    signer: str = ""
    trusted: bool = False
    made: Mapping[str, Any] | None = None
    faults: tuple[str, ...] = ()


def making(world: str, **inputs: str | Path | None) -> dict[str, Any]:
    """What a manifest says of a run: the world, the sha256 of all its weights, and of every input that was given."""
    from nfs_lib.checkpoints import read_manifest, world_folder

    weights = {name: part.sha256 for name, part in read_manifest(world_folder(world)).items()}
    given = {name: digest(Path(file)) for name, file in inputs.items() if file is not None}
    return {"world": world, "weights": weights, "inputs": given}


@contextmanager
def signing(path: Path, signs: Signs) -> Iterator[Path]:
    """Write an mp4 to the path that this yields; `path` is the same with its manifest, made if the block succeeds."""
    first = unsigned(path)
    try:
        yield first
        sign(first, path, signs)
    finally:
        first.unlink(missing_ok=True)


def sign(first: Path, path: Path, signs: Signs) -> None:
    """Copy a video and give it its manifest. Raises Unsigned if that fails, BadInput for a certificate that can't be used."""
    with first.open("rb") as source, path.open("w+b") as target:
        signed(source, target, "video/mp4", signs)


def check(certificate: str | Path) -> None:
    """Make sure, before any long work, that a certificate can sign: it signs a picture of one pixel. Raises as `sign` does."""
    picture = io.BytesIO()
    Image.new("L", (1, 1)).save(picture, "png")
    signed(io.BytesIO(picture.getvalue()), io.BytesIO(), "image/png", Signs(certificate=Path(certificate)))


def signed(source: io.BufferedIOBase, target: io.BufferedIOBase, kind: str, signs: Signs) -> None:
    """Copy a file of a MIME type and give it its manifest."""
    import c2pa

    given = throwaway_credentials() if signs.certificate is None else own_credentials(signs.certificate)
    agent = {"name": KIT, "version": __version__}
    action = {"action": "c2pa.created", "digitalSourceType": SYNTHETIC, "softwareAgent": agent}
    manifest = {"claim_generator_info": [agent], "format": kind, "assertions": [
        {"label": "c2pa.actions.v2", "data": {"actions": [action]}},
        {"label": MAKING, "data": {"version": __version__, "visible_mark": signs.mark, **signs.making}}]}  # fmt: skip
    try:
        signer = c2pa.Signer.from_info(c2pa.C2paSignerInfo(*given, None))
        c2pa.Builder(manifest, context()).sign(signer, kind, source, target)
    except (c2pa.C2paError, OSError, ValueError) as error:
        whose = "" if signs.certificate is None else f" with {signs.certificate}"
        raise Unsigned(f"the manifest can't be signed{whose} ({error}), so nothing was written; C2PA asks for a certificate "
                       "that may sign, given by an authority (not self-signed), and the whole chain in the file") from error


def read(path: str | Path) -> Manifest:
    """The manifest of a video, checked against the file's content. A file of a kind that can't hold one has none."""
    import c2pa

    with Path(path).open("rb") as file:
        try:
            found = json.loads(c2pa.Reader("video/mp4", file, context=context()).json())
        except c2pa.C2paError.ManifestNotFound:
            return Manifest("absent")
        except c2pa.C2paError as error:
            held = b"c2pa" in head(Path(path))
            return Manifest("tampered", faults=(str(error),)) if held else Manifest("absent")
    active = found["manifests"][found["active_manifest"]]
    faults = {s["code"]: s["explanation"] for s in found.get("validation_status", [])}
    faults.pop("signingCredential.untrusted", None)
    expired = faults.pop("signingCredential.expired", None) is not None
    made = next((a["data"] for a in active["assertions"] if a["label"] == MAKING and ours(a["data"])), None)
    state = "valid" if found["validation_state"] in ("Valid", "Trusted") else "tampered"
    if expired and not faults:
        state = "expired"
    signer = active.get("signature_info", {})
    name = signer.get("common_name") or signer.get("issuer") or "nobody"
    return Manifest(state, name, found["validation_state"] == "Trusted", made, tuple(faults.values()))


def ours(made: Any) -> bool:
    """Whether an assertion has the form of the kit's own: anyone may have written it."""
    inputs = made.get("inputs", {}) if isinstance(made, dict) else None
    return isinstance(inputs, dict) and all(isinstance(one, str) for item in inputs.items() for one in item)


def head(path: Path) -> bytes:
    """The first 64 kB of a file, where an mp4 has its manifest."""
    with path.open("rb") as file:
        return file.read(65536)


def context() -> Any:
    """The library's settings; made anew each time, for a forked process can't use its parent's."""
    import c2pa

    return c2pa.Context(c2pa.Settings.from_dict(SETTINGS))
