"""Reasoning about small pure functions: code.py is the skill, functions.py writes and reads them."""
