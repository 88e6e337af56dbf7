"""The little of curl that the manual uses, for machines that have none: `-s -N -i -X -H -d` and an address."""

import argparse
import sys
from http.client import HTTPConnection
from urllib.parse import urlsplit


def main() -> None:
    """Send one request and print the reply's body, with `-i` its head too."""
    parser = argparse.ArgumentParser()
    for flag in ("-s", "-N", "-i"):
        parser.add_argument(flag, action="store_true")
    parser.add_argument("-X", dest="method")
    parser.add_argument("-H", dest="headers", action="append", default=[])
    parser.add_argument("-d", dest="body")
    parser.add_argument("address")
    options = parser.parse_args(_spread(sys.argv[1:]))
    address = urlsplit(options.address)
    connection = HTTPConnection(address.netloc, timeout=30)
    headers = {"user-agent": "curl", "accept": "*/*"}
    headers |= {name.strip(): value.strip() for name, _, value in (one.partition(":") for one in options.headers)}
    if options.body is not None:
        headers.setdefault("content-type", "application/x-www-form-urlencoded")
    path = address.path + (f"?{address.query}" if address.query else "")
    body = options.body.encode() if options.body is not None else None
    connection.request(options.method or ("GET" if body is None else "POST"), path, body, headers)
    reply = connection.getresponse()
    if options.i:
        print(f"HTTP/1.1 {reply.status} {reply.reason}")
        print("".join(f"{name}: {value}\n" for name, value in reply.getheaders()))
    sys.stdout.write(reply.read().decode())
    connection.close()


def _spread(arguments: list[str]) -> list[str]:
    """`-sN` is `-s -N`."""
    together = [one for one in arguments if one[:1] == "-" and len(one) > 2 and set(one[1:]) <= set("sNi")]
    rest = [one for one in arguments if one not in together]
    return [f"-{flag}" for one in together for flag in one[1:]] + rest


main()
