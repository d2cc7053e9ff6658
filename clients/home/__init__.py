"""The agent's home on disk: everything that outlives a process. In reading order:

home.py              the folder: identity, pins, state, memory, outboxes; opened at a whole round after `kill -9`
state_file.py        an agent's state as one file; replicated_file.py: that file twice
founding.py          which run and recipe a home belongs to; homes.py: all homes of a device
pins.py              what the device's owner demands of a run
inbox.py             mail that neighbours delivered directly
"""
