"""What can happen to a device or a network: each fault as what does it and what undoes it.

One that cannot be done at this moment, as when what is to be killed is being started, says so and counts for nothing.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from chaos_world import World

from clients.home.home import STATE

HOUR = 3600
FLIPPED = 64  # bytes


@dataclass(frozen=True)
class Fault:
    """A kind of fault.

    Attributes
    ----------
    name : for people
    does : what is done to an agent's device (of a network fault: to the network); True if it could be
    undoes : the end of it; None where the product itself must see to that
    hold : seconds between the two, at least and at most
    network : it hits the SuperLink, not a device
    """

    name: str
    does: Callable[[World, int, random.Random], bool]
    undoes: Callable[[World, int], None] | None = None
    hold: tuple[float, float] = (0.0, 0.0)
    network: bool = False


def faults(world: World) -> tuple[list[Fault], list[str]]:
    """Every kind this machine allows, and why others are left out."""
    found = [
        Fault("kill -9 agent process", _killer("clients.service.agent_process")),
        Fault("kill -9 SuperNode", _killer("clients.device.supernode")),
        Fault("kill -9 symphony up", _kill_up, _start_again, (1.0, 5.0)),
        Fault("power cut: kill -9 all of a device", _power_cut, _start_again, (1.0, 10.0)),
        Fault("kill -9 SuperLink", _kill_superlink, network=True),
        Fault("network cut: port closed", _shut, _open, (5.0, 20.0)),
        Fault("network silent: no byte passes", _silence, _open, (5.0, 20.0)),
        Fault("home file corrupted, agent killed", _corrupt),
    ]
    reasons = []
    if world.clocks:
        found.append(Fault("clock an hour off", _skew, _right, (5.0, 20.0)))
    else:
        reasons.append("clock an hour off: needs Linux and a C compiler")
    if world.small_disks:
        found.append(Fault("disk full", _fill, _clear, (5.0, 20.0)))
    else:
        reasons.append("disk full: needs Linux and root, to mount a small disk")
    return found, reasons


def _killer(part: str) -> Callable[[World, int, random.Random], bool]:
    def kill(world: World, number: int, rng: random.Random) -> bool:
        found = world.parts(f"d{number}", part)
        for process in found:
            process.kill()
        return bool(found)

    return kill


def _kill_superlink(world: World, number: int, rng: random.Random) -> bool:
    found = world.parts("network", "strategies.superlink.guard")
    for process in found:
        process.kill()
    return bool(found)


def _kill_up(world: World, number: int, rng: random.Random) -> bool:
    return world.kill_up(number, everything=False)


def _power_cut(world: World, number: int, rng: random.Random) -> bool:
    return world.kill_up(number, everything=True)


def _start_again(world: World, number: int) -> None:
    world.up(number)


def _shut(world: World, number: int, rng: random.Random) -> bool:
    world.forwarders[number].shut()
    return True


def _silence(world: World, number: int, rng: random.Random) -> bool:
    world.forwarders[number].hold()
    return True


def _open(world: World, number: int) -> None:
    world.forwarders[number].open()


def _skew(world: World, number: int, rng: random.Random) -> bool:
    world.clocks[number].set(rng.choice((HOUR, -HOUR)))
    return True


def _right(world: World, number: int) -> None:
    world.clocks[number].set(0)


def _fill(world: World, number: int, rng: random.Random) -> bool:
    world.fill(number)
    return True


def _clear(world: World, number: int) -> None:
    world.clear(number)


def _corrupt(world: World, number: int, rng: random.Random) -> bool:
    """Flip bytes of the run's state while its agent is stopped, so that it does not write it anew, then kill it: the
    state it opens next is the damaged one."""
    file = world.device(number) / "homes" / world.run / STATE
    agents = world.parts(f"d{number}", "clients.service.agent_process")
    if not file.exists() or not agents:
        return False
    agents[0].send_signal(signal.SIGSTOP)
    _flip(file, rng)
    agents[0].kill()
    return True


def _flip(file: Path, rng: random.Random) -> None:
    data = bytearray(file.read_bytes())
    for place in rng.sample(range(len(data)), FLIPPED):
        data[place] ^= rng.randrange(1, 256)
    file.write_bytes(data)
