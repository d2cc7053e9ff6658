"""The credentials for commands to a SuperLink, also on the server itself: loopback is open to every local user.

    FOLDER/credential              of operators: starts runs, lists and admits nodes
    FOLDER/fleet-credential        of the proxy: forwards what admitted nodes send
    FOLDER/flwr/credentials.yaml   the first, where Flower's own commands look for it

None of them appears on a command line, where other users of the machine could read it.
"""

from __future__ import annotations

import base64
import json
import secrets
from pathlib import Path

from symphony_fl.storage.folders import write_atomically
from symphony_fl.storage.private import private_file

OPERATOR, FLEET = "credential", "fleet-credential"
FLEET_HEADER = b"symphony-fleet"
STORE = "credentials.yaml"
ENTRY = "flower.account-auth.{address}.{name}"  # a key in the store of `flwr`


def credentials(folder: Path) -> tuple[Path, Path]:
    """(the operators', the proxy's) files in a private folder, made at the first call.

    Raises
    ------
    EdgeError
        One of them is open to others.
    """
    paths = folder / OPERATOR, folder / FLEET
    for path in paths:
        private_file(path, secrets.token_hex(32).encode())
    return paths


def hand_to_flower(credential: Path, home: Path, address: str) -> None:
    """Have `flwr` with this FLWR_HOME show a credential to the SuperLink at an address, as if it had logged in there.

    There is no refreshing: who is refused is refused.
    """
    token = private_file(credential, None).decode()
    values = {"authn-type": "oidc", "oidc-access-token": token, "oidc-refresh-token": "none"}
    store = {
        ENTRY.format(address=address, name=name): base64.b64encode(value.encode()).decode()
        for name, value in values.items()
    }
    write_atomically(home / STORE, json.dumps(store, indent=2).encode(), mode=0o600)  # JSON is YAML
