"""How an update travels: numpy only, no torch, no flwr. In reading order:

flat.py         named arrays <-> one float32 vector, and its layout
select.py       S(.) of eq. 3: which entries travel (density.py: how many; topk.py, permutation.py: how they are found)
coding.py       how a value travels, 32 to 1 bits (floats.py, quantised.py)
indices.py      how indices travel, near their entropy (golomb.py, pcodec)
envelope.py     update <-> signed bytes (terms.py, header.py, refusals.py, identity.py); bundle.py: several at once
letter.py       tasks <-> signed bytes; signatures.py: what is signed, and by whom, for both
topology.py     the graph G = (A, E) and its mixing weights
merge.py        A(.) and alpha of eq. 4: the protocol of a rule; rules/ has one file per rule
                (ledger.py: sums that come out alike in any order; seen.py: which updates were had)
"""
