"""Agents on real devices (section 5.4.1): what runs beside Flower's programs, and how it is kept running.

device.py         `symphony up`: checks, SuperNode, executor, agent process
network.py        `symphony network`: the SuperLink and what runs its ServerApps
fleet_proxy.py    all of a network that others see; wire.py: one connection of it; admitted.py: who asks
supervisor.py     programs started, watched, and started again when they die or hang
keys.py           the device's identity and its key towards the SuperLink; a network's certificates
frames.py         how the ClientApp, the agent process and health checks talk
status.py         `symphony status`; refused_runs.py: runs that were refused, counted

Flower is used as programs here, never imported.
"""
