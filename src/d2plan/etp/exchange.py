"""One question to a web server and its answer, within a deadline and a size, and nothing else."""

import ipaddress
import socket
import ssl
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from d2plan.errors import InputError, PlannerError

MOST_BYTES = 1_000_000
_CHUNK = 65_536
_ENDING = "/chat/completions"


class Disconnected(Exception):
    """The server closed the connection before its answer was whole."""


@dataclass(frozen=True)
class Address:
    """Where questions go.

    Attributes:
        secure: whether it speaks TLS.
        host: its name or number.
        port: its port.
        path: of the chat endpoint.
        key: the bearer token; never shown.
    """

    secure: bool
    host: str
    port: int
    path: str
    key: str = field(default="", repr=False)


@dataclass(frozen=True)
class Answer:
    """What a server answered.

    Attributes:
        status: of HTTP.
        text: the body.
        retry_after: seconds that it asks to wait; None when it says nothing.
    """

    status: int
    text: str
    retry_after: float | None = None


def check_address(url: str, key: str = "") -> Address:
    """Read an address, and refuse what would leak the key.

    Args:
        url: such as "http://localhost:11434/v1".
        key: the bearer token, or empty.

    Returns:
        The address of the chat endpoint.

    Raises:
        InputError: it is no http address, holds a password, or a key would travel unencrypted.
    """
    try:
        parts = urlsplit(url.strip())
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise InputError("--llm-url is no address; write one such as http://localhost:11434/v1.") from error
    if parts.scheme not in ("http", "https") or not host or not url.isprintable() or " " in url.strip():
        raise InputError("--llm-url is no address; write one such as http://localhost:11434/v1.")
    if parts.username is not None or parts.query or parts.fragment:
        raise InputError("--llm-url holds more than an address; set a key as D2PLAN_LLM_KEY in the environment.")
    if key and not (key.isascii() and key.isprintable() and " " not in key):
        raise InputError("D2PLAN_LLM_KEY holds a character that no key has; copy it anew.")
    secure = parts.scheme == "https"
    if key and not secure and not _is_near(host):
        raise InputError(f"--llm-url: the key would travel unencrypted to {host}; use https.")
    path = parts.path.rstrip("/").removesuffix(_ENDING) + _ENDING
    return Address(secure, host, port or (443 if secure else 80), path, key)


def post(address: Address, body: bytes, deadline: float) -> Answer:
    """Send one question and read its answer.

    Redirects are not followed. A watch closes the connection at the deadline, so that a server that drips single
    bytes holds nobody up.

    Args:
        address: where to.
        body: JSON.
        deadline: on the clock of ``time.monotonic``.

    Returns:
        The answer, of any status.

    Raises:
        Disconnected: the connection broke; nothing says whether the question was read.
        PlannerError: nobody listens there, the deadline passed, or the answer is larger than 1 MB.
    """
    left = deadline - time.monotonic()
    where = f"{address.host}:{address.port}"
    if left <= 0:
        raise _late(where)
    connection = _open(address, left)
    sockets: list[socket.socket] = []
    watch = threading.Timer(left, _cut, [connection, sockets])
    watch.daemon = True
    watch.start()
    try:
        answer = _exchange(connection, address, body, sockets)
        if time.monotonic() >= deadline:
            # A connection that the watch cut looks like the end of an answer without a length.
            raise _late(where)
        return answer
    except (TimeoutError, OSError, HTTPException, ValueError) as error:
        if time.monotonic() >= deadline - 0.01 or isinstance(error, TimeoutError):
            raise _late(where) from error
        if isinstance(error, ssl.SSLError):
            raise PlannerError(f"{where} offers no secure connection that can be trusted ({error.reason}).") from error
        if isinstance(error, ConnectionError | HTTPException) and not isinstance(error, ConnectionRefusedError):
            raise Disconnected("the server closed the connection before its answer was whole") from error
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise PlannerError(f"Nobody answers at {where} ({reason}); start the server, or check --llm-url.") from error
    finally:
        watch.cancel()
        connection.close()


def _open(address: Address, seconds: float) -> HTTPConnection:
    scheme = "https" if address.secure else "http"
    proxy = None if proxy_bypass(address.host) or _is_near(address.host) else getproxies().get(scheme)
    kind = HTTPSConnection if address.secure else HTTPConnection
    if not proxy:
        return kind(address.host, address.port, timeout=seconds)
    gate = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    connection = kind(gate.hostname or "", gate.port or 80, timeout=seconds)
    connection.set_tunnel(address.host, address.port)
    return connection


def _exchange(connection: HTTPConnection, address: Address, body: bytes, sockets: list[socket.socket]) -> Answer:
    headers = {"Content-Type": "application/json", "Accept": "application/json", "Connection": "close"}
    if address.key:
        headers["Authorization"] = f"Bearer {address.key}"
    connection.request("POST", address.path, body, headers)
    if connection.sock is not None:
        # The connection forgets its socket once it has read the headers; the watch must not.
        sockets.append(connection.sock)
    response = connection.getresponse()
    if 300 <= response.status < 400:
        return Answer(response.status, "")
    return Answer(response.status, _read_body(response, address), _read_wait(response.getheader("Retry-After")))


def _read_body(response: HTTPResponse, address: Address) -> str:
    parts, size = [], 0
    # A declared length is believed only as a reason to stop early.
    while (response.length or 0) + size <= MOST_BYTES and (part := response.read1(_CHUNK)):
        parts.append(part)
        size += len(part)
        if size > MOST_BYTES:
            break
    if size + (response.length or 0) > MOST_BYTES:
        raise PlannerError(
            f"{address.host}:{address.port} answers with more than {MOST_BYTES} bytes; it is no chat server."
        )
    if response.length:
        raise ConnectionResetError("the body is shorter than its length")
    # What is no UTF-8 stays recognisable, for who reads the text refuses it.
    return b"".join(parts).decode("utf-8", "surrogateescape")


def _read_wait(text: str | None) -> float | None:
    # The form with a date is rare, and then the own backoff does.
    return float(text) if text is not None and text.strip().isdecimal() and len(text) < 10 else None


def _cut(connection: HTTPConnection, sockets: list[socket.socket]) -> None:
    for one in (*sockets, connection.sock):
        if one is not None:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


def _late(where: str) -> PlannerError:
    return PlannerError(f"{where} did not answer in time; give it longer with --llm-seconds, or use --planner grammar.")


def _is_near(host: str) -> bool:
    """Say whether a host is this machine or one of the own network."""
    try:
        number = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith((".localhost", ".local")) or "." not in host
    return number.is_loopback or number.is_private or number.is_link_local
