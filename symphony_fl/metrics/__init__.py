"""Figures of a run, computed from what it recorded.

history.py           what happened, and the figures a run is judged by
capabilities.py      who can do what; affinity.py: capability vectors, affinity, diversity
paper_metrics.py     the metrics of section 6.4 that are defined nowhere else
"""
