"""Runs without a round barrier: clocks.py says whose job ends next, dispatcher.py gets jobs answered."""
