"""S(.) of eq. 3: which entries of an adapter travel.

selection.py         dense, random, cyclic, topk, threshold; density.py: how many, by round
topk.py              the largest entries of a vector; permutation.py: a seeded order that is never stored
"""
