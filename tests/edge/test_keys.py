"""Keys and certificates of devices and networks: lasting, private, and good for a real TLS connection."""

from __future__ import annotations

import socket
import ssl
import stat
import threading
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_private_key, load_ssh_public_key

from symphony_fl.edge.keys import certificates, identity, node_key
from symphony_fl.identity.key_file import KeyFileError
from symphony_fl.storage.private import EdgeError, private_file, private_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return private_folder(tmp_path / "device")


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_device_keeps_its_keys(folder: Path) -> None:
    assert identity(folder) == identity(folder)
    private, public = node_key(folder)
    kept = private.read_bytes()
    assert node_key(folder) == (private, public) and private.read_bytes() == kept
    assert _mode(private) == _mode(folder / "key") == 0o600 and _mode(folder) == 0o700
    key = load_ssh_private_key(kept, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert load_ssh_public_key(public.read_bytes()) == key.public_key()


def test_what_others_can_read_is_refused(folder: Path) -> None:
    identity(folder), node_key(folder)
    for name, error in (("key", KeyFileError), ("node.key", EdgeError)):
        (folder / name).chmod(0o640)
        with pytest.raises(error, match="chmod 600"):
            identity(folder) if name == "key" else node_key(folder)
    folder.chmod(0o750)
    with pytest.raises(EdgeError, match="chmod 700"):
        private_folder(folder)
    with pytest.raises(EdgeError, match="missing"):
        private_file(folder / "absent", None)


def _serve_once(certificate: Path, key: Path) -> int:
    """A TLS server for one connection; its port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    listener = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        with listener, listener.accept()[0] as raw:
            try:
                with context.wrap_socket(raw, server_side=True) as connection:
                    connection.sendall(b"hello")
            except OSError:
                pass  # the client did not like us

    threading.Thread(target=answer, daemon=True).start()
    return int(listener.getsockname()[1])


@pytest.mark.parametrize(
    ("name", "good"), [("server.example", True), ("127.0.0.1", True), ("other.example", False)]
)
def test_the_certificate_made_here_holds_for_its_names_only(folder: Path, name: str, good: bool) -> None:
    authority, certificate, key = certificates(folder, ["server.example", "10.1.2.3"])
    assert _mode(key) == 0o600
    context = ssl.create_default_context(cafile=str(authority))
    with socket.create_connection(("127.0.0.1", _serve_once(certificate, key))) as raw:
        if good:
            with context.wrap_socket(raw, server_hostname=name) as connection:
                assert connection.recv(5) == b"hello"
        else:
            with pytest.raises(ssl.SSLCertVerificationError):
                context.wrap_socket(raw, server_hostname=name)


def test_certificates_last_and_a_name_they_lack_is_refused(folder: Path) -> None:
    first = [path.read_bytes() for path in certificates(folder, ["server.example"])]
    assert [path.read_bytes() for path in certificates(folder, ["server.example"])] == first
    with pytest.raises(EdgeError, match="--name other.example: not in"):
        certificates(folder, ["other.example"])
    (folder / "server.key").chmod(0o644)
    with pytest.raises(EdgeError, match="chmod 600"):
        certificates(folder, [])
