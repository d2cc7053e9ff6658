"""Grids: how a strategy's messages reach nodes. Each wraps another one and changes one thing.

wrapper.py           what wrappers pass on unchanged, and how they wait for replies
per_message.py       every reply is fetched by itself, so that none holds up another
retry.py             asks again where no answer comes; adaptive_timeouts.py: after how long
multiplex.py         many agents behind one SuperNode
progress.py          says how many answers have come
in_memory.py         no Flower processes: messages go to worker processes on this machine
"""
