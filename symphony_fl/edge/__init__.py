"""Agents on real devices (section 5.4.1): what runs beside Flower's programs, and how they are kept running.

    frames.py         how the ClientApp, the agent process and whoever asks after its health talk
    private.py        folders and files that only their owner may read
    keys.py           the device's identity and its key towards the SuperLink; a network's certificates
    supervisor.py     programs started, watched, and started again when they die or hang
    device.py         `symphony up`: checks, SuperNode, executor, agent process
    network.py        `symphony network`: SuperLink and what runs its ServerApps
    status.py         `symphony status`
    commands.py       these commands' options

Flower is used as programs here, never imported.
"""
