"""Keys of a device, and certificates of a network that brings none of its own.

A device has two: Ed25519, the agent's identity, which signs its envelopes; and ECDSA on P-384, Flower's choice, by
which its SuperNode proves to the SuperLink that it was admitted. A network's own certificate authority signs exactly
one server certificate; devices are given the authority's certificate, which is no secret.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import socket
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_ssh_private_key,
)
from cryptography.x509.oid import NameOID

from symphony_fl.identity.key_file import KEY_FILE, KeyFileError, check_pins, open_key_file
from symphony_fl.storage.folders import read_file, write_atomically
from symphony_fl.storage.private import EdgeError, private_file

YEARS = 10 * 365  # days a network's certificates are good for
CA, CERTIFICATE, KEY = "ca.pem", "server.pem", "server.key"


def identity(folder: Path) -> str:
    """The device's did:key; its key is made at the first call.

    Raises
    ------
    KeyFileError
        The key is open to others, damaged or lost, or the owner's pins are gone.
    """
    check_pins(folder, KeyFileError)
    return open_key_file(folder / KEY_FILE).did


def node_key(folder: Path) -> tuple[Path, Path]:
    """The SuperNode's key pair: (private, public) files in OpenSSH's format, made at the first call.

    Raises
    ------
    EdgeError
        The private key is open to others, damaged, or not that of the public key which lies here.
    """
    private, public = folder / "node.key", folder / "node.pub"
    if os.path.lexists(public) and not os.path.lexists(private):
        raise EdgeError(
            f"{private}: missing beside {public.name}, by which this device was admitted; restore it, or remove "
            f"{public.name} for a new pair, to be admitted anew"
        )
    fresh = ec.generate_private_key(ec.SECP384R1()).private_bytes(
        Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()
    )
    try:
        key = load_ssh_private_key(private_file(private, fresh), None)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise EdgeError(f"{private}: damaged ({error}); restore it from a backup") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise EdgeError(f"{private}: must be an ECDSA key on a NIST curve")
    words = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    if not os.path.lexists(public):
        write_atomically(public, words + b"\n")
    elif _content(public).split()[:2] != words.split():  # a comment may follow
        raise EdgeError(
            f"{public}: not the public key of {private.name}; restore the pair, or remove this one"
        )
    return private, public


def certificates(folder: Path, names: Sequence[str]) -> tuple[Path, Path, Path]:
    """(authority, server certificate, server key) of a network, made together at the first call.

    Parameters
    ----------
    names : host names and addresses, beside this machine's, under which devices reach the server

    Raises
    ------
    EdgeError
        One of them is missing, damaged or not of the others; the server's key is open to others; or the certificate
        there does not cover a name.
    """
    paths = folder / CA, folder / CERTIFICATE, folder / KEY
    there = any(os.path.lexists(path) for path in paths)
    if not there:
        _make(paths, [*names, "localhost", "127.0.0.1", "::1", socket.gethostname()])
    known = _server_certificate(*paths)
    covered = known.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    for name in names:
        if _alternative(name) not in covered:
            raise EdgeError(
                f"--name {name}: not in {paths[1]}; remove {CA}, {CERTIFICATE} and {KEY} there to make new ones"
            )
    return paths


def _server_certificate(authority: Path, certificate: Path, key: Path) -> x509.Certificate:
    """The certificate, once the three files belong together. Raises EdgeError where they do not."""
    how = f"restore it; or remove {CA}, {CERTIFICATE} and {KEY}, and give every device the new {CA}"
    for path in (authority, certificate, key):
        if not os.path.lexists(path):
            raise EdgeError(f"{path}: missing beside the others of {CA}, {CERTIFICATE} and {KEY}; {how}")
    secret = private_file(key, None)
    try:
        root = x509.load_pem_x509_certificate(_content(authority))
        known = x509.load_pem_x509_certificate(_content(certificate))
        known.verify_directly_issued_by(root)
        ours = load_pem_private_key(secret, None)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm) as error:
        raise EdgeError(
            f"{authority.parent}: {CA}, {CERTIFICATE} or {KEY} damaged ({type(error).__name__}); {how}"
        ) from None
    if ours.public_key() != known.public_key():
        raise EdgeError(f"{key}: not the key of {certificate.name}; {how}")
    return known


def _content(path: Path) -> bytes:
    try:
        return read_file(path)
    except OSError as error:
        raise EdgeError(f"{path}: cannot be read ({error.strerror})") from None


def _make(paths: tuple[Path, Path, Path], names: Sequence[str]) -> None:
    authority, server = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Symphony-FL network")])
    root = (
        _builder(issuer, issuer, authority)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .sign(authority, hashes.SHA256())
    )
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Symphony-FL SuperLink")])
    alternatives = [_alternative(name) for name in dict.fromkeys(names)]
    leaf = (
        _builder(subject, issuer, server)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(_usage(signs=False), critical=True)
        .sign(authority, hashes.SHA256())
    )
    # The authority's key is discarded, so that no second server can be signed.
    paths[0].write_bytes(root.public_bytes(Encoding.PEM))
    paths[1].write_bytes(leaf.public_bytes(Encoding.PEM))
    private_file(paths[2], server.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))  # devices' clocks differ
        .not_valid_after(now + datetime.timedelta(days=YEARS))
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
