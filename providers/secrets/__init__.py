"""Where secrets are kept: the environment, files, and NATS with the values sealed.

Each is a SecretBackend: called with a reference, it gives the value, or None when there is none of that key.
"""
