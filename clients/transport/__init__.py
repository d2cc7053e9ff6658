"""Ways to an agent other than the SuperLink's mailbox.

agent_client.py      the ClientApp's end of the socket to a device's agent process
endpoint.py          a QUIC endpoint under the agent's own key
peer_to_peer.py      mail delivered directly to neighbours (`exchange.transport=iroh`)
"""
