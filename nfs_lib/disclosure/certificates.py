"""What a manifest is signed with: the user's own certificate, or one that is made up for the process.

The key of the latter is thrown away with the process. That proves that a video is as it was written; it doesn't prove who wrote
it: anyone can make up another.
"""

from datetime import datetime, timedelta, timezone
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from nfs_lib.errors import BadInput
from nfs_lib.paths import check_input

KIT = "NeRFFaceSpeech kit"
TEST, TEST_ROOT = "throwaway test certificate: integrity, not identity", "throwaway test authority"
VALID = timedelta(days=50 * 365)                     # without a trusted time stamp a video is invalid after that


class Credentials(NamedTuple):
    """What a manifest is signed with: C2PA's name of the algorithm, certificates from the signer's up, private key, as PEM."""

    algorithm: bytes
    chain: bytes
    key: bytes


def own_credentials(path: str | Path) -> Credentials:
    """The user's private key and certificates, all in one PEM file, the signer's certificate first.

    Raises BadInput if the file lacks one of them, if they don't belong together, or if the key is of a kind that C2PA lacks.
    """
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    try:
        content = check_input(path, "a PEM file with key and certificates").read_bytes()
        chain = x509.load_pem_x509_certificates(content)
        begin = content.index(b"-----BEGIN ", max(0, content.index(b"PRIVATE KEY-----") - 24))
        key: Any = serialization.load_pem_private_key(content[begin:], None)
    except OSError as error:
        raise BadInput(f"{path} can't be read ({error.strerror}); give a PEM file with key and certificates") from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise BadInput(f"{path} doesn't hold a private key and its certificates as PEM ({error}); put all into one "
                       "file, the key without a passphrase") from error
    if key.public_key() != chain[0].public_key():
        raise BadInput(f"{path}: the private key isn't that of the first certificate; put the signer's certificate first")
    return Credentials(algorithm(key), *pem(chain, key))


@cache
def throwaway_credentials() -> Credentials:
    """A throwaway authority, and a certificate that it gives to a throwaway key."""
    from cryptography.hazmat.primitives.asymmetric import ec

    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    root = certificate(TEST_ROOT, keys[0], TEST_ROOT, keys[0])
    return Credentials(b"es256", *pem([certificate(TEST, keys[1], TEST_ROOT, keys[0]), root], keys[1]))


def certificate(subject: str, key: Any, issuer: str, issuer_key: Any) -> Any:
    """A certificate of the profile that C2PA asks for; an authority's if it is its own issuer."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    def name(text: str) -> Any:
        return x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, KIT),
                          x509.NameAttribute(NameOID.COMMON_NAME, text)])

    root, now = subject == issuer, datetime.now(timezone.utc)
    usage = dict.fromkeys(("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "crl_sign",
                           "encipher_only", "decipher_only"), False)  # fmt: skip
    draft = (
        x509.CertificateBuilder(name(issuer), name(subject), key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1)).not_valid_after(now + VALID)
        .add_extension(x509.BasicConstraints(root, 0 if root else None), critical=True)
        .add_extension(x509.KeyUsage(digital_signature=not root, key_cert_sign=root, **usage), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )  # fmt: skip
    if not root:
        draft = draft.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
    return draft.sign(issuer_key, hashes.SHA256())


def pem(chain: list[Any], key: Any) -> tuple[bytes, bytes]:
    """Certificates and private key as PEM."""
    from cryptography.hazmat.primitives import serialization as s

    plain = key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption())
    return b"".join(c.public_bytes(s.Encoding.PEM) for c in chain), plain


def algorithm(key: Any) -> bytes:
    """C2PA's name of the algorithm that a private key signs with. Raises BadInput if it has none."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in ("secp256r1", "secp384r1", "secp521r1"):
        return {"secp256r1": b"es256", "secp384r1": b"es384", "secp521r1": b"es512"}[key.curve.name]
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return b"ed25519"
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= 2048:
        return b"ps256"
    raise BadInput("this private key can't sign a manifest; give one of ECDSA (P-256, P-384, P-521), Ed25519 or RSA (2048 bits "
                   "or more)")
