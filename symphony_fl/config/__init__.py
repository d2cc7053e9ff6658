"""Recipes: every option, and how YAML, overrides and received text become a checked `Recipe`.

option.py            one key: default, meaning, range; options.py, options_async.py, options_centralized.py: all of them
recipe.py            YAML to checked recipe; the only user of OmegaConf
received.py          a recipe that came over the network; allowed.py: what it may name on this device
"""
