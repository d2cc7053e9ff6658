"""The episodic memory M_i of section 5.1, in SQLite. No torch.

memory.py            what was tried and how it went; episodes.py: one attempt; schema.py: the tables
retrieval.py         which texts are most like another
"""
