"""The `symphony` command.

main.py              the list of commands
run.py               runs that people watch; compare.py: what is read from a tracking store
experiment.py        the paper's experiment; timing.py: simulated time
edge.py              devices and networks
"""
