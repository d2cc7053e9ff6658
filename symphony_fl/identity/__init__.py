"""Who is who: keys, signatures and what they prove. Knows nothing of models or updates. In reading order:

did_key.py               an Ed25519 key pair and its name, a did:key
canonical.py             canonical msgpack: how signed things are written; signatures.py: what is signed, and who signed
key_file.py              the private key on disk; rotation.py: statements that change it
proof_of_possession.py   an agent that introduces itself holds its key; key_agreement.py: from did:key to X25519
replay_window.py         which numbered messages were already received
"""
