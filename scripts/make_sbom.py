"""Write what the kit is made of as a CycloneDX 1.6 bill of materials: `make sbom`.

    python scripts/make_sbom.py FILE.json

Every package of the lock files with its hashes and licence, every asset, and every shipped weight with its hash.
"""

import json
import re
import sys
from pathlib import Path

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, XsUri
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from nfs_lib import __version__
from nfs_lib.licences import LOCKS, ROOT, Terms, table
from nfs_lib.paths import data_folder
from nfs_lib.writing import replacing

TYPES = {"package": ComponentType.LIBRARY, "asset": ComponentType.DATA, "weights": ComponentType.MACHINE_LEARNING_MODEL}


def locked_hashes() -> dict[str, list[str]]:
    """Package name to the sha256 of its files."""
    texts = [(ROOT / name).read_text().replace("\\\n", " ") for name in LOCKS]
    pins = [pin for text in texts for pin in re.findall(r"^([\w.-]+)==(.*)", text, re.MULTILINE)]
    return {name: re.findall(r"sha256:(\w+)", rest) for name, rest in pins}


def component(terms: Terms, hashes: list[str]) -> Component:
    """One row of the licence table as a component."""
    digests = [HashType(alg=HashAlgorithm.SHA_256, content=digest) for digest in hashes]
    made = Component(
        name=terms.name,
        version=terms.version or __version__,
        type=TYPES[terms.kind],
        bom_ref=f"{terms.kind}:{terms.name}",
        licenses=[LicenseFactory().make_from_string(terms.licence)],
        description=terms.note or None,
    )
    if terms.kind == "package":  # one of several files, each with its hash
        made.purl = PackageURL("pypi", name=terms.name, version=terms.version)
        made.external_references.add(
            ExternalReference(type=ExternalReferenceType.DISTRIBUTION, url=XsUri(str(made.purl)), hashes=digests)
        )
    else:
        made.hashes.update(digests)
    return made


def main(out: Path) -> None:
    """Write the file."""
    hashes = locked_hashes()
    parts = json.loads((data_folder() / "weights" / "open" / "manifest.json").read_text())["parts"]
    hashes |= {f"open/{name}": [part["sha256"]] for name, part in parts.items()}
    bom = Bom(components=[component(terms, hashes.get(terms.name, [])) for terms in table() if terms.kind in TYPES])
    kit = Component(name="nerffacespeech-kit", version=__version__, type=ComponentType.APPLICATION, bom_ref="kit",
                    licenses=[LicenseFactory().make_from_string("MIT")])  # fmt: skip
    bom.metadata.component = kit
    bom.register_dependency(kit, bom.components)
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as temporary:
        temporary.write_text(JsonV1Dot6(bom).output_as_string(indent=1))
    print(f"{out}: {len(bom.components)} components")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
