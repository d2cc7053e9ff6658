"""A network and its devices as their owners start them: `symphony network` and `symphony up` on loopback."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil
from forwarder import Forwarder

from symphony_fl.edge.device import free_port, health


class Loopback:
    """Starts, kills and stops them. `folder` holds everything; what they say goes to `*.txt` in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.network = folder / "net"
        self.commands: dict[str, subprocess.Popen[bytes]] = {}
        self.environment = os.environ | {"SYMPHONY_HOME": str(folder / "symphony")}

    def symphony(
        self, name: str, *arguments: str, extra: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """One `symphony` command under a name; `extra` goes into its environment."""
        with (self.folder / f"{name}.txt").open("ab") as output:
            self.commands[name] = subprocess.Popen(
                [sys.executable, "-m", "symphony_fl.cli.main", *arguments],
                env=self.environment | dict(extra or {}), stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip
        return self.commands[name]

    def start_network(self) -> None:
        """`symphony network`, admitting whoever is there."""
        self.symphony("network", "network", str(self.network), "--port", str(self.port))
        self.wait(lambda: (self.network / "ca.pem").exists() and (self.network / "nodes").exists(), 60)

    def start_device(self, number: int) -> Path:
        """`symphony up`, admitted; returns when its agent process answers."""
        device = self.device(number)
        self.up(number)
        self.wait(lambda: (device / "node.pub").exists(), 60)
        shutil.copy(device / "node.pub", self.network / "nodes" / f"{number}.pub")
        self.wait(lambda: health(device) is not None, 180)
        return device

    def up(self, number: int) -> None:
        """Start `symphony up`, for the first time or again."""
        self.symphony(
            f"d{number}", "up", "--superlink", f"127.0.0.1:{self.door(number)}", "--number", str(number),
            "--root-certificates", str(self.network / "ca.pem"), "--device", str(self.device(number)),
            "--memory", "0.1", "--disk", "0.01", extra=self.surroundings(number),
        )  # fmt: skip

    def device(self, number: int) -> Path:
        return self.folder / f"dev{number}"

    def door(self, number: int) -> int:
        """The port by which a device reaches the SuperLink."""
        return self.port

    def surroundings(self, number: int) -> Mapping[str, str]:
        """What a device's environment has besides ours."""
        return {}

    def parts(self, name: str, part: str) -> list[psutil.Process]:
        """The programs below a command whose command line holds `part`."""
        try:
            children = psutil.Process(self.commands[name].pid).children()
            return [child for child in children if any(part in word for word in child.cmdline())]
        except psutil.NoSuchProcess:  # one of them ends while we look
            return []

    def kill(self, name: str, part: str) -> None:
        """SIGKILL to the one program below a command whose command line holds `part`."""
        found = self.parts(name, part)
        assert len(found) == 1, (name, part, found)
        os.kill(found[0].pid, signal.SIGKILL)

    def wait(self, ready: Callable[[], bool], seconds: float) -> None:
        """Until it is so; a command that has ended ends the wait."""
        deadline = time.monotonic() + seconds
        while not ready():
            ended = [name for name, process in self.commands.items() if process.poll() not in (None, 0)]
            assert not ended and time.monotonic() < deadline, self.said()
            time.sleep(0.1)

    def said(self) -> str:
        """What all commands and their programs said last."""
        logs = [*self.folder.glob("*.txt"), *self.folder.glob("*/logs/*.log")]
        return "\n".join(f"== {log}\n{log.read_text(errors='replace')[-1500:]}" for log in logs)

    def close(self) -> None:
        """Ask all to stop, devices first."""
        for process in reversed(self.commands.values()):
            process.terminate()
            process.wait(timeout=60)


class Behind(Loopback):
    """Device 1 reaches the SuperLink through a forwarder."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.forwarder = Forwarder(self.port)

    def door(self, number: int) -> int:
        return self.forwarder.port if number == 1 else self.port

    def close(self) -> None:
        super().close()
        self.forwarder.close()
