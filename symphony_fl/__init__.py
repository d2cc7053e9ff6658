"""Symphony-FL: agents that improve their own LoRA adapters and teach each other by gossip, on Flower.

In reading order:

    exchange/        how an update travels: select, code, sign, open, merge (numpy only)
    learning/        how an agent improves: tasks, sampling, GRPO, base models and adapters
    options.py       every key of a recipe; recipe.py reads and checks them
    components.py    from a recipe's short names to the parts above
    history.py       what happened, and the figures a run is judged by; capabilities.py: who can do what
    tracking.py      the same in MLflow; plots.py and tables.py for people
    launch.py        recipes through real `flwr run`
    cli.py           the `symphony` command

The nodes' side is in `clients/`, the server's in `strategies/`; nothing here imports either, or Flower.
"""

__version__ = "0.1.0"
