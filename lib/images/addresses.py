"""What may be opened by its address: a list of schemes, no chains, public hosts only."""

import asyncio
import ipaddress
import os
import socket
from functools import lru_cache
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

import fsspec
from fsspec.asyn import sync
from fsspec.implementations.local import LocalFileSystem

from lib.errors import BadInputError, ImageSearchError

SCHEMES = frozenset(
    "file http https s3 s3a gs gcs az abfs abfss hf oss oci hdfs webhdfs".split()  # noqa: SIM905
)
# An address in a list may lead anywhere: to a router, or to a cloud's metadata with its keys.
PRIVATE_ADDRESSES = "IMAGE_SEARCH_PRIVATE_ADDRESSES"
_ALLOWING = f"{PRIVATE_ADDRESSES}=1 in the environment, or --allow-private-addresses, allows such"
STALL_S = 20.0  # without a byte
WITHIN_S = 600.0  # the whole answer to a request, a list of any length
_BLOCK = 1 << 16


class PrivateAddressError(ImageSearchError):
    """A host is on this machine or network; the message says what allows it."""


class TooLargeError(Exception):
    """A file has more bytes than are read."""


def allow_private_addresses(allowed: bool) -> None:
    """Let this process connect to hosts that are not public; never takes that back."""
    if allowed:
        os.environ[PRIVATE_ADDRESSES] = "1"


def open_filesystem(uri: str, within_s: float = WITHIN_S) -> tuple[Any, str]:
    """The fsspec filesystem of a path or URI, and the path in it. It keeps no listings.

    Never a chain of them, whatever the address says (`a::b.jpg` is a name). within_s: seconds that
    one request of http(s) may take. Raises BadInputError for an address without host or bucket, or
    of a scheme that is not in SCHEMES or whose package is not installed; PrivateAddressError for
    HDFS, whose hosts are those of a network, unless such are allowed.
    """
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return LocalFileSystem(), LocalFileSystem._strip_protocol(uri)
    scheme = scheme.lower()  # RFC 3986, 3.1
    uri = f"{scheme}://{rest}"
    if scheme == "file":
        if rest.startswith("localhost/"):  # RFC 8089, 2
            rest = rest.removeprefix("localhost")
        path = os.fsdecode(unquote_to_bytes(rest))
        return LocalFileSystem(), path if os.path.lexists(path) else rest
    if scheme not in SCHEMES:
        known = ", ".join(sorted(SCHEMES))
        raise BadInputError(f"{uri}: images are read from {known}, and not from {scheme}://")
    try:
        host = urlsplit(uri).hostname
    except ValueError as error:
        raise BadInputError(f"{uri} is no address: {error}") from error
    if not host and scheme != "hdfs":  # which has a host of its own
        raise BadInputError(f"{uri} names no host or bucket")
    if scheme in ("http", "https"):
        return http(STALL_S, within_s), uri
    if "hdfs" in scheme and not os.environ.get(PRIVATE_ADDRESSES):
        raise PrivateAddressError(f"{uri} is no public address; {_ALLOWING}")
    try:
        kind = fsspec.get_filesystem_class(scheme)
        options = kind._get_kwargs_from_urls(uri)
        return kind(**options, use_listings_cache=False), kind._strip_protocol(uri)
    except (ImportError, ValueError) as error:
        raise BadInputError(f"{uri}: no storage of this kind is installed ({error})") from error


@lru_cache(maxsize=4)
def http(stall_s: float, within_s: float) -> Any:
    """The fsspec filesystem of http and https, which connects to public addresses only."""
    import aiohttp

    timeout = aiohttp.ClientTimeout(within_s, sock_connect=stall_s, sock_read=stall_s)
    client = {"get_client": _client, "client_kwargs": {"timeout": timeout}}
    return fsspec.filesystem("http", **client, use_listings_cache=False)


async def _client(**options: Any) -> Any:
    import aiohttp

    connector = aiohttp.TCPConnector(socket_factory=_public_socket)
    return aiohttp.ClientSession(connector=connector, **options)


def _public_socket(address: Any) -> socket.socket:
    """A socket for an address that a host, or what it redirects to, was resolved to."""
    family, kind, protocol, _, (host, *_) = address
    ip = ipaddress.ip_address(host.partition("%")[0])
    ip = getattr(ip, "ipv4_mapped", None) or ip
    if (not ip.is_global or ip.is_multicast) and not os.environ.get(PRIVATE_ADDRESSES):
        raise PrivateAddressError(f"{ip} is no public address; {_ALLOWING}")
    return socket.socket(family, kind, protocol)


def get(url: str, most_bytes: int, seconds: float) -> bytes:
    """What a GET of an http(s) URL answers.

    Raises TooLargeError as soon as it is longer than `most_bytes`, TimeoutError where it takes
    longer than `seconds` in all, FileNotFoundError for 404, and what aiohttp raises.
    """
    fs = http(STALL_S, WITHIN_S)
    return sync(fs.loop, _get, fs, url, most_bytes, seconds)


async def _get(fs: Any, url: str, most_bytes: int, seconds: float) -> bytes:
    session = await fs.set_session()
    async with asyncio.timeout(seconds), session.get(url) as answer:
        if answer.status in (404, 410):
            raise FileNotFoundError(url)
        answer.raise_for_status()
        if (answer.content_length or 0) > most_bytes:
            raise TooLargeError(f"{answer.content_length:,} bytes")
        content = bytearray()
        async for block in answer.content.iter_chunked(_BLOCK):
            content += block
            if len(content) > most_bytes:
                raise TooLargeError("more")
        return bytes(content)
