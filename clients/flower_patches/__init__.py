"""Where we rely on Flower's internals or change what it does.

internals.py         what is relied on, with digests of sources, arguments and fields
tls_retry.py         connections that break off in a TLS handshake are tried again
ray_security.py      Ray on loopback and behind a token before Flower starts it
"""
