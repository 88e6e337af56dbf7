"""Requests made wrong in a hundred ways, the same ones for the same seed: bodies, headers, paths, methods, lengths."""

from __future__ import annotations

import json
import random
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

METHODS = (
    *("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "COPY", "LOCK", "MKCOL", "MOVE"),
    *("PROPFIND", "PROPPATCH", "SEARCH", "UNLOCK", "REPORT", "SUBSCRIBE", "PURGE", "LINK", "SOURCE", "BREW", "get"),
)


@dataclass(slots=True)
class Draft:
    """A request on its way to being wrong; `truncated` says that less of the body is sent than was promised."""

    method: bytes
    path: bytes
    headers: list[tuple[bytes, bytes]]
    value: Any = None
    body: bytes = b""
    framing: str = "length"
    truncated: bool = False
    told: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Mutant:
    """The bytes to send; `told` says what was done, `complete` whether a server can know that it is over."""

    raw: bytes
    told: str
    complete: bool
    bodiless: bool


class Mutator:
    """Makes mutants of good requests; `mark` stands in all that it makes up, so that an echo is seen."""

    def __init__(self, seed: int, mark: str, token: str, seeds: Sequence[tuple[str, str, Any]]) -> None:
        """`seeds` are (method, path, JSON body or None) of requests that are right, `token` the key for them."""
        self._random = random.Random(seed)
        self._mark = mark
        self._token = token
        self._seeds = seeds

    def mutant(self) -> Mutant:
        """The next one: one to four changes to one of the good requests."""
        method, path, body = self._random.choice(self._seeds)
        draft = Draft(
            method.encode(),
            path.encode(),
            [(b"host", b"127.0.0.1"), (b"authorization", b"Bearer " + self._token.encode())],
            json.loads(json.dumps(body)),
        )
        if body is not None:
            draft.headers.append((b"content-type", b"application/json"))
        structural = [*[self._value] * 4, *[self._structure] * 3] if body is not None else []
        outer = [self._method, self._path, self._path, self._header, self._header, self._authorization]
        for change in self._some([*structural, *outer], 1, 3):
            change(draft)
        if draft.value is not None:
            draft.body = self._encoded(draft)
        if draft.body and self._random.random() < 0.4:
            self._random.choice([self._flip, self._cut, self._insert, self._encode_otherwise, self._enlarge])(draft)
        if self._random.random() < 0.2:
            self._random.choice([self._frame_chunked, self._frame_chunked, self._truncate])(draft)
        return self._spelled(draft)

    def _some(self, changes: Sequence[Callable[[Draft], None]], low: int, high: int) -> list[Callable[[Draft], None]]:
        return self._random.choices(changes, k=self._random.randint(low, high))

    # ── values ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _odd(self, depth: int = 0) -> Any:
        """A value that nobody expects; `Raw` text goes into the body as it is."""
        pick = self._random
        kinds: list[Callable[[], Any]] = [
            lambda: None,
            lambda: pick.choice([True, False]),
            lambda: pick.choice([0, -1, 1, 2**31, 2**53, 2**63, -(2**63), 2**64, 10**30, -0.0, 1e308, 5e-324, 0.1]),
            lambda: pick.choice(["", " ", "\x00", "\n", "\u2028", "\ufeff", "\u202e", "..", "%00", "null", "[DONE]"]),
            lambda: self._text(pick.choice([1, 10, 199, 200, 201, 1000, 5000])),
            lambda: pick.choice(["Å", "ﬁ", "e\u0301", "\U0001f600", "\ud800", "\udfff\ud800", "\uffff", "ß" * 300]),
            lambda: Raw(
                pick.choice(["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "01", "+1", ".5", "1.", "0x10"])
            ),
            lambda: Raw(
                pick.choice(["9" * 400, "1" + "0" * 4400, "undefined", "'x'", "tru", "\\", '"\\u12"', '"\\x"'])
            ),
            lambda: Raw("[" * pick.choice([10, 150, 260]) + f'"{self._mark}"' + "]" * pick.choice([10, 150, 260])),
            lambda: pick.choice(
                ["1/0", "2**2**2**9", "9**9**9", "(" * 200 + "1" + ")" * 200, "sqrt(-1)", "1;2;3", "a=b"]
            ),
            lambda: pick.choice([[], {}, [[]], [{}], {"": ""}, {"type": "text"}, {"__proto__": {}}]),
        ]
        if depth < 3:
            kinds.append(lambda: [self._odd(depth + 1) for _ in range(pick.randint(0, 4))])
            kinds.append(lambda: {self._name(): self._odd(depth + 1) for _ in range(pick.randint(0, 4))})
        return pick.choice(kinds)()

    def _text(self, length: int) -> str:
        filler = "".join(self._random.choices(string.ascii_letters + string.digits + " ./%\\\"'<>&;é☃", k=length))
        return (self._mark + filler)[: max(length, len(self._mark))]

    def _name(self) -> str:
        known = ["prompt", "content", "thread_id", "metadata", "input", "type", "text", "data", "uri", "media_type"]
        return self._random.choice([*known, "expression", "precision", self._mark, "", "\x00", self._text(50)])

    def _value(self, draft: Draft) -> None:
        """Put an odd value somewhere."""
        if isinstance(draft.value, dict) and draft.value and self._random.random() < 0.85:
            place: Any = draft.value
            for _ in range(3):
                name = self._random.choice(list(place) if isinstance(place, dict) else range(len(place)))
                inner = place[name]
                if not isinstance(inner, dict | list) or not inner or self._random.random() < 0.4:
                    place[name] = self._odd()
                    draft.told.append(f"odd {name!r}"[:60])
                    return
                place = inner
        draft.value = self._odd()
        draft.told.append("odd body")

    def _structure(self, draft: Draft) -> None:
        """Take a key away, rename it, add one, or wrap the whole."""
        value = draft.value
        kind = self._random.choice(["drop", "rename", "add", "add", "wrap", "parts"])
        if kind == "wrap" or not isinstance(value, dict):
            draft.value = self._random.choice([[value], {self._name(): value}, {"input": value}, {"content": [value]}])
        elif kind == "add":
            value[self._name()] = self._odd()
        elif kind == "parts":
            value["content"] = [
                {"type": self._random.choice(["text", "file", "data", self._mark]), self._name(): self._odd()}
                for _ in range(self._random.randint(0, 3))
            ]
        elif value:
            name = self._random.choice(list(value))
            moved = value.pop(name)
            if kind == "rename":
                value[self._name()] = moved
        draft.told.append(kind)

    def _encoded(self, draft: Draft) -> bytes:
        raws: list[str] = []

        def hold(value: Any) -> str:
            if not isinstance(value, Raw):
                raise TypeError(type(value).__name__)
            raws.append(value.text)
            return f"\x01raw{len(raws) - 1}\x01"

        text = json.dumps(draft.value, default=hold, ensure_ascii=self._random.random() < 0.5)
        for number, raw in enumerate(raws):
            text = text.replace(f'"\\u0001raw{number}\\u0001"', raw)
        if isinstance(draft.value, dict) and draft.value and self._random.random() < 0.05:
            name = json.dumps(self._random.choice(list(draft.value)))
            text = text[:-1] + f", {name}: {json.dumps(self._mark)}}}"
            draft.told.append("key twice")
        return text.encode("utf-8", "surrogatepass")

    # ── bytes ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _flip(self, draft: Draft) -> None:
        body = bytearray(draft.body)
        for _ in range(self._random.randint(1, 5)):
            body[self._random.randrange(len(body))] ^= 1 << self._random.randrange(8)
        draft.body = bytes(body)
        draft.told.append("flipped")

    def _cut(self, draft: Draft) -> None:
        draft.body = draft.body[: self._random.randrange(len(draft.body))]
        draft.told.append("cut")

    def _insert(self, draft: Draft) -> None:
        place = self._random.randrange(len(draft.body) + 1)
        wedge = self._random.choice([self._random.randbytes(5), self._mark.encode(), b"\x00", b"\r\n\r\n", b",", b"/*"])
        draft.body = draft.body[:place] + wedge + draft.body[place:]
        draft.told.append("inserted")

    def _encode_otherwise(self, draft: Draft) -> None:
        encoding = self._random.choice(["utf-16", "utf-16-le", "utf-32", "utf-8-sig", "latin-1", "utf-7"])
        draft.body = draft.body.decode("utf-8", "replace").encode(encoding, "replace")
        draft.told.append(encoding)

    def _enlarge(self, draft: Draft) -> None:
        size = self._random.choice([60_000, 70_000, 200_000])
        padding = self._random.choice([b" ", b"[", b'{"a":', b"9", b'"'])
        draft.body = draft.body + padding * (size // len(padding))
        draft.told.append(f"{size} bytes")

    # ── framing ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _frame_chunked(self, draft: Draft) -> None:
        draft.framing = "chunked"
        draft.told.append("chunked")

    def _truncate(self, draft: Draft) -> None:
        draft.truncated = True
        draft.told.append("truncated")

    def _spelled(self, draft: Draft) -> Mutant:
        names = {name.lower() for name, _value in draft.headers}
        body = draft.body
        headers = list(draft.headers)
        if draft.framing == "chunked" and b"transfer-encoding" not in names:
            headers.append((b"transfer-encoding", b"chunked"))
            body = self._in_chunks(draft)
        elif body or draft.truncated or draft.method in {b"POST", b"PUT"}:
            promised = len(body) + (self._random.randint(1, 5000) if draft.truncated else 0)
            headers.append((b"content-length", str(promised).encode()))
        lines = [draft.method + b" " + draft.path + b" HTTP/1.1", *(name + b": " + value for name, value in headers)]
        raw = b"\r\n".join(lines) + b"\r\n\r\n" + body
        told = f"{draft.method.decode()} {draft.path[:60]!r}: {', '.join(draft.told)}"
        return Mutant(raw, told, not draft.truncated, draft.method == b"HEAD")

    def _in_chunks(self, draft: Draft) -> bytes:
        rest, chunks = draft.body, []
        while rest:
            size = self._random.randint(1, max(1, len(rest)))
            extension = self._random.choice([b"", b"", b";x=" + self._mark.encode()])
            chunks.append(b"%x%s\r\n%s\r\n" % (size, extension, rest[:size]))
            rest = rest[size:]
        return b"".join(chunks) + (b"" if draft.truncated else b"0\r\n\r\n")

    # ── around the body ──────────────────────────────────────────────────────────────────────────────────────────────

    def _method(self, draft: Draft) -> None:
        draft.method = self._random.choice(METHODS).encode()
        draft.told.append("method")

    def _path(self, draft: Draft) -> None:
        mark = self._mark.encode()
        pieces = (
            *(b"/", b"//", b"/.", b"/..", b"/%2e%2e", b"/%2F", b"%00", b"%0A", b"%0D%0A", b"%ff", b"%C0%AF", b"%"),
            *(
                b"%zz",
                b";x=1",
                b"?",
                b"?limit=x",
                b"?cursor=",
                b"?limit=-1&limit=2",
                b"#f",
                b"%E2%80%AE",
                b"%F0%9F%98%80",
            ),
            *(b"/threads/", b"/threads/%2e", b"/threads/a%2Fb", b"/runs/", b"\\", b"'", b"*", b"~", b"+", b"%2B", b"@"),
            *(
                b"/" + b"a" * 300,
                b"a" * 8000,
                b"%41" * 100,
                b"?" + b"q" * 5000,
                b"/" + mark,
                b"?" + mark,
                b"%20" + mark,
            ),
        )
        path = draft.path
        kind = self._random.choice(["append", "append", "insert", "replace", "cut", "case", "absolute"])
        if kind == "append":
            path += self._random.choice(pieces)
        elif kind == "insert":
            place = self._random.randrange(1, len(path) + 1)
            path = path[:place] + self._random.choice(pieces) + path[place:]
        elif kind == "replace":
            path = b"/" + b"/".join(self._random.choices([*path.strip(b"/").split(b"/"), mark, b"agents", b""], k=4))
        elif kind == "cut":
            path = path[: self._random.randrange(1, len(path) + 1)]
        elif kind == "case":
            path = path.swapcase()
        else:
            path = b"http://" + self._random.choice([b"127.0.0.1", mark + b".example"]) + path
        draft.path = path
        draft.told.append(f"path {kind}")

    def _header(self, draft: Draft) -> None:
        mark = self._mark.encode()
        name, value = self._random.choice(
            [
                (b"content-type", self._random.choice([b"text/plain", b"", mark, b"application/json;charset=utf-16"])),
                (
                    b"content-type",
                    self._random.choice([b"application/x+json", b"\xff", b"multipart/form-data; boundary=x"]),
                ),
                (b"host", self._random.choice([b"evil.example", mark, b"", b"[::1", b"localhost:99999", b"\xe9"])),
                (
                    b"origin",
                    self._random.choice([b"null", b"https://" + mark, b"http://127.0.0.1", b"http://[", b"\xff"]),
                ),
                (b"sec-fetch-site", self._random.choice([b"cross-site", b"same-origin", b"none", mark])),
                (b"accept", self._random.choice([b"text/html", b"*/*;q=x", b"\xff\xfe", mark])),
                (b"accept-encoding", b"gzip, br, " + mark),
                (b"content-encoding", self._random.choice([b"gzip", b"br", mark])),
                (b"x-forwarded-for", self._random.choice([b"1.2.3.4", b"unknown", b", ,", b"\xff", mark * 100])),
                (b"x-forwarded-proto", self._random.choice([b"https", b"gopher", mark])),
                (b"forwarded", b"for=" + mark),
                (b"idempotency-key", self._random.choice([mark, b"", b"k" * 5000, b"\xff"])),
                (b"last-event-id", self._random.choice([b"1", b"-1", b"9" * 50, mark])),
                (b"x-request-id", mark),
                (b"cookie", b"; ".join([mark + b"=1"] * 100)),
                (b"range", b"bytes=0-1"),
                (b"expect", self._random.choice([b"100-continue", b"200-maybe"])),
                (b"connection", self._random.choice([b"close", b"keep-alive, " + mark, b"upgrade"])),
                (b"te", b"trailers, deflate;q=0.5"),
                (b"if-none-match", b"*"),
                (b"x-" + mark, mark),
                (b"x-long", b"y" * self._random.choice([1000, 8000, 30_000])),
                (b"x-bytes", bytes(self._random.choices(range(0x80, 0x100), k=40))),
                (b"access-control-request-method", b"POST"),
            ]
        )
        kind = self._random.choice(["add", "set", "drop", "twice"])
        if kind in {"set", "drop"}:
            draft.headers = [known for known in draft.headers if known[0] != name]
        if kind != "drop":
            draft.headers += [(name, value)] * (2 if kind == "twice" else 1)
        draft.told.append(f"{kind} {name.decode()}"[:40])

    def _authorization(self, draft: Draft) -> None:
        token, mark = self._token.encode(), self._mark.encode()
        values = [
            *(b"", b"Bearer", b"Bearer ", b"bearer " + token, b"Basic " + token, token, b"Bearer " + token[:-1]),
            *(b"Bearer " + mark, b"Bearer \xc3\xa9" + mark, b"Bearer " + b"a" * 5000, b"Bearer " + token + b" x"),
        ]
        kept = [known for known in draft.headers if known[0] != b"authorization"]
        draft.headers = (
            [*kept, (b"authorization", self._random.choice(values))] if self._random.random() < 0.8 else kept
        )
        draft.told.append("authorization")


@dataclass(frozen=True, slots=True)
class Raw:
    """Text for the body as it is, which JSON could not spell."""

    text: str
