"""wasmcloud:messaging 0.2.0: guests publish and request, and are called with the messages they are subscribed to."""
