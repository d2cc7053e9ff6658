"""Recipes: every option, and how YAML, overrides and received text become a checked `Recipe`.

option.py            one key: default, meaning, range; components chosen by name
options.py           the whole of a recipe; learning.py, exchange.py, network.py, strategy.py: its larger sections
recipe.py            YAML to checked recipe; the only user of OmegaConf
layers.py            what a file changes of the one it extends; texts as the types that options want
plugins.py           components from outside the package
explain.py           what is wrong, in one line
reference.py         every key and component with its meaning: what `symphony options` prints; a JSON schema
received.py          a recipe that came over the network; allowed.py: what it may name on this device
"""
