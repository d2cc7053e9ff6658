"""Self-play (eq. 5 and 6): the agent's own model writes the tasks it is trained on.

selfplay.py          the loop: propose, solve, judge, learn; proposers.py: who decides what a proposal is about
bootstrap.py         how a model learns the form of a proposal; common_start.py: what all agents begin with after it
proposal_stats.py    what it wrote, counted
"""
