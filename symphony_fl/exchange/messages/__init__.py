"""Signed messages between agents, byte for byte. In reading order:

session.py           what both ends agree on; header.py: an envelope's header
envelope.py          update <-> signed bytes; bundle.py: several envelopes as one
task_message.py      tasks shown to neighbours; direct_message.py: mail delivered without the mailbox
sealed_box.py        mail encrypted for one neighbour
chunks.py            pieces of a trainer's weights; rollouts.py: a worker's samples
"""
