"""The nodes' side: Flower's ClientApp and the agents behind it. In reading order:

client_app.py        Flower's messages in, answers out
service/             answers the four messages for one agent
agents/              what an agent does; home/: what it keeps on disk
protocol/            what travels between node and server
transport/           ways to an agent beside the SuperLink
device/              Flower's programs on a device; flower_patches/: where we rely on Flower's internals
worker_pool.py       processes in which agents answer without Flower (`symphony run --in-process`)
"""
