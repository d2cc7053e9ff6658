"""Answers Flower's messages for one agent.

service.py           the four messages and their answers; residents.py: which kind of agent a recipe makes of a number
agent_process.py     the lasting process of a device that holds the model and answers over a socket
"""
