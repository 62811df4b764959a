"""A guest that uses the network as any Python program does: plain `socket`."""

import encodings.idna  # noqa: F401  imported by `socket` when first needed, which is too late in a component
import select
import socket
import sys

from wit_world import exports


class Sockets(exports.Sockets):
    def run(self, what: str, host: str, port: int) -> str:
        try:
            return globals()[what](host, port)
        except OSError as error:
            return f"{type(error).__name__}: {error}"


def echo_client(host: str, port: int) -> str:
    with socket.create_connection((host, port), timeout=20) as connection:
        connection.sendall(b"hello ")
        connection.sendall(b"world")
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while chunk := connection.recv(4096):
            answer += chunk
    return answer.decode()


def large_client(host: str, port: int) -> str:
    """A megabyte there and back, both ways at once."""
    total, sent, received = 1 << 20, 0, 0
    data = bytes(range(256)) * 256
    with socket.create_connection((host, port)) as connection:
        connection.setblocking(False)
        while received < total:
            readable, writable, _ = select.select([connection], [connection] if sent < total else [], [])
            if readable:
                received += len(connection.recv(1 << 16))
            if writable:
                sent += connection.send(data[: total - sent])
    return f"{sent} {received}"


def echo_server(host: str, port: int) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as server:
        server.bind((host, port))
        server.listen()
        sys.stdout.write(f"{server.getsockname()[1]}\n")
        sys.stdout.flush()
        connection, _ = server.accept()
        with connection:
            while chunk := connection.recv(4096):
                connection.sendall(chunk.upper())
    return "served"


def udp_client(host: str, port: int) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(b"over here", (host, port))
        data, sender = client.recvfrom(4096)
        return f"{data.decode()} from {sender[0]}"


def udp_connected(host: str, port: int) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect((host, port))
        client.send(b"connected")
        return client.recv(4096).decode()


def udp_server(host: str, port: int) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((host, port))
        sys.stdout.write(f"{server.getsockname()[1]}\n")
        sys.stdout.flush()
        data, sender = server.recvfrom(4096)
        server.sendto(data.upper(), sender)
    return "served"


def resolve(host: str, port: int) -> str:
    return ",".join(sorted({found[4][0] for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}))
