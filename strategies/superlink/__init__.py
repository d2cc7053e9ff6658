"""Flower's SuperLink behind a credential (guard.py), and its executor of ServerApps (executor.py)."""
