"""How an update travels: numpy only, no torch, no flwr. In reading order:

flat.py              named arrays <-> one float32 vector, and its layout
selection/           S(.) of eq. 3: which entries travel
codecs/              how values and indices travel, 32 bits to 1
messages/            signed messages between agents
topology.py          the graph G = (A, E) and its mixing weights
rules/               A(.) and alpha of eq. 4: how received updates change an adapter, one file each
fixed_point.py       sums that are the same in any order; staleness.py: what late updates weigh
broadcast.py         a trainer's weights to its rollout workers
lora_merge_error.py  what averaging A and B apart loses; attacks.py: harmful updates for experiments
"""
