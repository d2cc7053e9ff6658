"""The server's face: `server_app.py` gathers a `roster.py` of agents and starts one of the strategies."""
