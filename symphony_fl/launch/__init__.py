"""Starting a run and watching it. In reading order:

runtime.py           the two ways a run can go: Flower's processes (flower.py) or one process and a pool of workers
local_superlink.py   a private SuperLink; credential.py: what its users must show; watchdog.py: ends with its launcher;
                     die_with_parent.py: so do programs
feasible.py          what is refused before Flower is started
staging.py           a copy of the app for `flwr run`; prebuild.py: the model is built meanwhile
progress.py          where a run is, from its logs; display.py: on a terminal; failure_causes.py: why it failed
"""
