"""Symphony-FL: agents that improve their own LoRA adapters and teach each other by gossip, on Flower.

In reading order (each room's docstring lists its files):

errors.py, refusals.py   what the network may be told; why a message is refused
registry.py              which options a component has, and who provides it
storage/     folders and files               identity/    keys, signatures and what they prove
exchange/    how an update travels           learning/    how an agent improves
config/      recipes and their options       build/       from a recipe to its parts
simulation/  time on imagined devices        metrics/     figures of a run
tracking/    what MLflow is told             reports/     plots, tables, pages
launch/      starting a run, watching it     edge/        devices and networks
experiment/  the paper's section 6           benchmarks/  what the parts cost
cli/         the `symphony` command

The nodes' side is in `clients/`, the server's in `strategies/`; nothing here imports either, or Flower.
"""

__version__ = "0.2.0"
