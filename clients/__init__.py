"""The node's face: `client_app.py` answers Flower's messages with an `agent.py` opened from its `home.py`."""
