"""Measurements of the parts on the machine at hand: figures, no verdicts.

exchange.py: bytes, time and memory of the exchange; learn.py: a GRPO step; relay.py: mail through real `flwr run`.
"""
