"""A client may offer to change to another protocol, as Java's does; it is answered all the same."""

from __future__ import annotations

import json
import socket
from urllib.parse import urlsplit

import pytest

from tests.processes import PATIENCE_S

BODY = json.dumps({"leaves": [{"id": "a", "value": 3}], "backward": []}).encode()
OFFER = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAA\r\n"
LENGTH = b"Content-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
LAST = b"GET /livez HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)


def head(offer: bytes) -> bytes:
    return (
        b"POST /v1/trace HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\n"
        b"X-Request-Id: mine\r\n" + offer
    )


def exchange(url: str, *pieces: bytes) -> bytes:
    """Send ``pieces`` one after the other and a last request; return all but the last body."""
    where = urlsplit(url)
    with socket.create_connection((where.hostname, where.port), PATIENCE_S) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            connection.sendall(piece)
        connection.sendall(LAST)
        return b"".join(iter(lambda: connection.recv(65536), b"")).partition(b'{"status":"alive"}')[
            0
        ]


@pytest.mark.parametrize("rest", [LENGTH, CHUNKED], ids=["length", "chunked"])
def test_the_body_behind_an_offer_is_read(url: str, rest: bytes) -> None:
    answer = exchange(url, head(OFFER) + rest)

    assert answer.startswith(b"HTTP/1.1 200")
    assert b"x-request-id: mine" in answer
    assert b'"value":3.0' in answer


def test_a_body_that_comes_later_and_the_next_request_are_read(url: str) -> None:
    first = head(OFFER) + LENGTH

    answer = exchange(url, first[:150], first[150:-9], first[-9:] + head(OFFER) + LENGTH)

    assert answer.count(b"HTTP/1.1 200") == 3


def test_the_rest_of_the_connection_header_holds(url: str) -> None:
    offer = OFFER.replace(b"Upgrade, HTTP2-Settings", b"upgrade, close, http2-settings")

    answer = exchange(url, head(offer) + LENGTH)

    assert answer.startswith(b"HTTP/1.1 200")
    assert b"connection: close" in answer


def test_an_offer_without_a_body_is_answered(url: str) -> None:
    answer = exchange(url, b"GET /livez HTTP/1.1\r\nHost: here\r\n" + OFFER + b"\r\n")

    assert answer.startswith(b"HTTP/1.1 200")


def test_a_tunnel_is_refused_as_a_problem(url: str) -> None:
    answer = exchange(url, b"CONNECT here:80 HTTP/1.1\r\nHost: here\r\n" + OFFER + b"\r\n")

    assert answer.startswith(b"HTTP/1.1 40")
