"""The server's side: Flower's ServerApp and one file per strategy. In reading order:

server_app.py        gathers the agents of a recipe, lets the strategy run the rounds, writes down what came of them
roster.py            who takes part: stable agent numbers behind Flower's node ids
gossip.py            rounds of gossip between neighbours; isolated.py: without any exchange
mail_router.py       posts what replies bring, and builds the messages that deliver it
mailbox.py           holds envelopes between two deliveries and opens none
async_gossip.py      gossip without a round barrier (asynchrony/)
fedavg.py            Flower's FedAvg on the same agents: the baseline
centralized.py       one trainer, the others sample for it
build.py             from a recipe to its strategy
recorder.py          from replies to history and MLflow; results.py: what is written at the end
grids/               how messages reach nodes
in_process.py        a run without Flower's processes
superlink/           Flower's SuperLink behind a credential
"""
