"""One HTTP/1.1 reply as its bytes come in, and the SSE events in it; no I/O.

It reads what the measured servers send (a length or chunks, no trailers) and is made to cost less than they do.
"""

EVENT = b"\ndata: {"
DONE = b"data: [DONE]\n\n"


class Reply:
    """A reply that is fed until it is whole.

    `status` is 0 until the head is there; `events` counts the frames whose data is a JSON object; `done` says whether
    the body so far ends with the frame that ends a stream; `start` holds up to 300 of the body's first bytes.
    """

    __slots__ = ("_chunked", "_left", "_pending", "_tail", "done", "events", "start", "status")

    def __init__(self) -> None:
        """Begin with nothing read."""
        self.status = 0
        self.events = 0
        self.done = False
        self.start = b""
        self._pending = b""
        self._tail = b"\n"
        self._left = 0
        self._chunked = False

    def feed(self, data: bytes) -> bool:
        """Take the next bytes; returns whether the reply is whole. Raises `ValueError` if it is not HTTP."""
        if self._pending:
            data = self._pending + data
            self._pending = b""
        if not self.status:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self._pending = data
                return False
            self._read_head(data[:end].lower())
            data = data[end + 4 :]
        if self._chunked:
            return self._feed_chunks(data)
        self._left -= len(data)
        self._take(data)
        return self._left <= 0

    def _read_head(self, head: bytes) -> None:
        lines = head.split(b"\r\n")
        self.status = int(lines[0].split(b" ")[1])
        for line in lines[1:]:
            if line.startswith(b"content-length:"):
                self._left = int(line[15:])
            elif line.startswith(b"transfer-encoding:"):
                self._chunked = line.endswith(b"chunked")

    def _feed_chunks(self, data: bytes) -> bool:
        """Take chunks; `_left` is what the current one still lacks, the two bytes behind it included."""
        at, size, whole, body = 0, len(data), False, []
        while at < size:
            if not self._left:
                end = data.find(b"\r\n", at)
                if end < 0 or (data[at] == 0x30 and size < end + 4):
                    self._pending = data[at:]
                    break
                length = int(data[at:end], 16)
                if not length:
                    whole = True
                    break
                self._left = length + 2
                at = end + 2
            stop = min(at + self._left, size)
            self._left -= stop - at
            body.append(data[at : max(at, min(stop, stop + self._left - 2))])
            at = stop
        if body:
            self._take(b"".join(body))
        return whole

    def _take(self, data: bytes) -> None:
        if len(self.start) < 300:
            self.start = (self.start + data)[:300]
        seen = self._tail[-7:] + data
        self.events += seen.count(EVENT)
        self._tail = (self._tail + data)[-len(DONE) :]
        self.done = self._tail == DONE
