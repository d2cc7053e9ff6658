"""The `symphony` command.

main.py              the list of commands, and what becomes of errors; __main__.py: `python -m symphony_fl.cli`
runs.py              commands that start runs; results.py: that read what runs left; devices.py: of devices and networks
recipes.py           commands about recipes and their options
words.py             arguments that several commands share, and how they are completed
watched.py           runs that people watch
compare.py           what is read from a tracking store; timing.py: simulated time
experiment.py        the paper's experiment

Modules of commands import only typer at first: a command is refused before anything heavy is loaded.
"""
