"""A loopback network that can be harmed: each device behind a forwarder, with a clock and a disk of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import psutil
from edge_processes import Loopback
from forwarder import Forwarder
from skewed_clock import SkewedClock, compile_skew

DISK_MEGABYTES = 64
FILLER = "filler"


class World(Loopback):
    """`agents` devices of one network.

    Attributes
    ----------
    forwarders, clocks : by agent number; clocks is empty where there is no C compiler
    run : the name of the run that is going on
    small_disks : whether every device lies on a small file system of its own, which takes root on Linux
    """

    def __init__(self, folder: Path, agents: int) -> None:
        super().__init__(folder)
        self.agents = agents
        self.run = ""
        self.forwarders = {number: Forwarder(self.port) for number in range(agents)}
        library = compile_skew(folder)
        self.clocks = (
            {number: SkewedClock(library, folder / f"clock{number}") for number in range(agents)}
            if library
            else {}
        )
        self.small_disks = (
            sys.platform == "linux" and os.getuid() == 0 and all(map(self._mount, range(agents)))
        )

    def door(self, number: int) -> int:
        return self.forwarders[number].port

    def surroundings(self, number: int) -> Mapping[str, str]:
        return self.clocks[number].environment if number in self.clocks else {}

    def start(self) -> None:
        """Network and devices; returns when every agent process answers."""
        self.start_network()
        for number in range(self.agents):
            self.start_device(number)

    def tree(self, number: int) -> list[psutil.Process]:
        """`symphony up` of a device and all that it started."""
        with suppress(psutil.NoSuchProcess):
            top = psutil.Process(self.commands[f"d{number}"].pid)
            return [top, *top.children(recursive=True)]
        return []

    def kill_up(self, number: int, everything: bool) -> bool:
        """SIGKILL to `symphony up`, or to every program of the device at the same time, as when power fails."""
        found = self.tree(number)[: None if everything else 1]
        for process in found:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        if found:
            self.commands[f"d{number}"].wait(timeout=30)
        return bool(found)

    def fill(self, number: int) -> None:
        """Leave not a byte of the device's disk free."""
        with suppress(OSError), (self.device(number) / FILLER).open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))

    def clear(self, number: int) -> None:
        """Give the disk back."""
        (self.device(number) / FILLER).unlink(missing_ok=True)

    def close(self) -> None:
        for forwarder in self.forwarders.values():
            forwarder.open()
        try:
            super().close()
        finally:
            for number, forwarder in self.forwarders.items():
                forwarder.close()
                if self.small_disks:
                    subprocess.run(["umount", "--lazy", str(self.device(number))], check=False)

    def _mount(self, number: int) -> bool:
        folder = self.device(number)
        folder.mkdir(mode=0o700)
        options = f"size={DISK_MEGABYTES}m,mode=0700"
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        return subprocess.run(command, check=False, capture_output=True).returncode == 0
