"""`nfs inspect`: what a video says of itself, read back, and whether it was changed since."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nfs_lib.disclosure.manifest import Manifest, read
from nfs_lib.disclosure.mark import FOUND, SEEN, SMALLEST, MarkSeeker
from nfs_lib.disclosure.watermark import THRESHOLD, Detector, false_alarm
from nfs_lib.paths import check_input, digest
from nfs_lib.video import DISCLOSURE, every_frame


def inspect(path: str | Path, inputs: Sequence[str | Path] = ()) -> dict[str, Any]:
    """All signs of a video, of any origin, as JSON takes them; "report" holds them in words, one line each.

    inputs: files that it may have been made from; each is compared with the sha256 in the manifest.
    Raises BadInput if the video can't be decoded or an input can't be read.
    """
    given = {str(file): digest(check_input(file, "files that the video may have been made from")) for file in inputs}
    detector, seeker, frames = Detector(), MarkSeeker(), 0
    size = (0, 0)
    for frame in every_frame(path):
        detector.add(frame)
        seeker.add(frame)
        frames, size = frames + 1, (frame.shape[1], frame.shape[0])
    manifest, score, match = read(path), detector.score(), seeker.match()
    found: dict[str, Any] = {
        "file": str(path), "frames": frames, "width": size[0], "height": size[1], "comment": said(path),
        "mark": {"found": match >= FOUND, "match": match},
        "watermark": {"found": score >= THRESHOLD, "score": score, "threshold": THRESHOLD, "false_alarm": false_alarm(score)},
        "manifest": manifest._asdict(), "inputs": compared(manifest, given),
    }  # fmt: skip
    return found | {"report": words(found, manifest)}


def said(path: str | Path) -> bool:
    """Whether the file's metadata hold the kit's disclosure."""
    from nfs_lib.video import comment

    return DISCLOSURE in comment(path)


def compared(manifest: Manifest, digests: dict[str, str]) -> dict[str, str]:
    """File → as what it went into the video ("image", "audio", ...), or "none"; digests: file → sha256."""
    roles = {sha256: role for role, sha256 in (manifest.made or {}).get("inputs", {}).items()}
    return {file: roles.get(sha256, "none") for file, sha256 in digests.items()}


def words(found: dict[str, Any], manifest: Manifest) -> list[str]:
    """The signs in words; the first line is what they amount to."""
    mark, watermark, made = found["mark"], found["watermark"], manifest.made
    lines = [verdict(found, manifest)]
    state = {"valid": "valid: picture and sound are as they were written", "absent": "none in this file",
             "expired": "unbroken: picture and sound are as they were written; the certificate has expired since",
             "tampered": "broken: " + "; ".join(manifest.faults)}[manifest.state]
    lines.append(f"manifest   {state}")
    if manifest.state != "absent":
        known = "known to a trust list" if manifest.trusted else "which nobody vouches for"
        lines.append(f"           signed by: {manifest.signer}, {known}")
    if made:
        names = [f"{role} {sha256[:12]}…" for role, sha256 in made.get("inputs", {}).items()]
        lines.append(f"           kit {made.get('version')}, the {made.get('world', '?')} world's networks, made from: "
                     f"{', '.join(names) or 'not said'}")
    lines.append(f"watermark  {'found' if watermark['found'] else 'not found'}: score {watermark['score']:.1f}, from "
                 f"{THRESHOLD} on it counts; by chance {watermark['false_alarm']:.0e} at most")
    lines.append(f"mark       {'seen' if mark['found'] else 'not seen'}: match {mark['match']:.2f}, from {FOUND} on it counts")
    for file, role in found["inputs"].items():
        what = "not named in the manifest" if role == "none" else f"the {role} that it was made from"
        lines.append(f"input      {file}: {what}")
    return ["".join(c for c in line if c.isprintable()) for line in lines]  # a manifest may hold anything


def verdict(found: dict[str, Any], manifest: Manifest) -> str:
    """What the signs amount to, and what they contradict. The mark alone is none: other letters there may look like it."""
    frames_ours, made = found["watermark"]["found"], manifest.made
    ours = frames_ours or made is not None or found["comment"]
    if not ours:
        return "no sign of this kit; that doesn't make it a recording"
    if manifest.state == "tampered":
        return "synthetic, made with this kit, and CHANGED after it was signed"
    if manifest.state != "absent" and made is None:
        return "synthetic, made with this kit, then written anew by another tool, which signed it"
    if manifest.state == "absent" or made is None:
        return "synthetic, made with this kit; its manifest was REMOVED, as copying, cutting or encoding it anew does"
    if not frames_ours and min(found["width"], found["height"]) >= SEEN:
        return "synthetic by its manifest, but its frames LACK the watermark: they aren't, or are no longer, what the kit wrote"
    if made.get("visible_mark") and not found["mark"]["found"] and min(found["width"], found["height"]) >= SMALLEST:
        return "synthetic, made with this kit; its visible mark was REMOVED"
    return "synthetic, made with this kit, and unchanged since"
