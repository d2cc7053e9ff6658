"""What travels between node and server, in Flower's records: the only part of the clients that strategies import.

messages.py          keys, types and bounds of every message; content.py: a content as bytes
greeting.py          a server's greeting, checked whole
addressing.py        labels of mail: sender, recipient, round; addresses.py: where an endpoint can be reached
multiplex.py         one node's message that carries those of many agents
report.py            what an agent answers; error_replies.py: what it says when it cannot
"""
