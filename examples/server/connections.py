"""HTTP connections that end: uvicorn's, with limits for what a client does not send."""

import collections

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

# Of the first line and the headers of a request.
MOST_HEAD = 2**16


class PlainProtocol(H11Protocol):
    """In Python alone, which has a limit for the head."""

    def has_whole_request(self):
        return self.conn.their_state not in (h11.IDLE, h11.SEND_BODY)


PROTOCOLS = [PlainProtocol]

try:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
except ImportError:  # It is faster, and has to be built on some machines.
    pass
else:

    class FastProtocol(HttpToolsProtocol):
        """Reads requests in C, and bounds the head."""

        _in_head, _head_bytes, _whole = True, 0, False

        def has_whole_request(self):
            return self._whole

        def data_received(self, data):
            if self._in_head:
                self._head_bytes += len(data)
            super().data_received(data)
            if self._in_head and self._head_bytes > MOST_HEAD:
                self.transport.abort()

        def on_message_begin(self):
            self._in_head, self._head_bytes, self._whole = True, 0, False
            super().on_message_begin()

        def on_headers_complete(self):
            self._in_head = False
            super().on_headers_complete()

        def on_message_complete(self):
            self._whole = True
            super().on_message_complete()

    PROTOCOLS.append(FastProtocol)


def limited_protocol(seconds, most, base=PROTOCOLS[-1]):
    """The class of connections that uvicorn is to use.

    A client has so many seconds to send a request, and again to take its answer. Then
    the connection is closed, whatever is half sent.

    Args:
        seconds: Number.
        most: Integer, the connections of an address at the same time.
        base: One of `PROTOCOLS`. Defaults to the fastest that is installed.
    """
    of_address = collections.Counter()

    class LimitedProtocol(base):
        _timer = None

        def connection_made(self, transport):
            super().connection_made(transport)
            self._address = self.client and self.client[0]
            of_address[self._address] += 1
            if of_address[self._address] > most:
                transport.abort()
            else:
                self._start_timer()

        def connection_lost(self, exc):
            self._stop_timer()
            of_address[self._address] -= 1
            if not of_address[self._address]:
                del of_address[self._address]
            super().connection_lost(exc)

        def data_received(self, data):
            super().data_received(data)
            if self.has_whole_request():
                # Now the server is to answer.
                self._stop_timer()
            elif self._timer is None:
                self._start_timer()

        def pause_writing(self):
            super().pause_writing()
            self._start_timer()

        def resume_writing(self):
            self._stop_timer()
            super().resume_writing()

        def _start_timer(self):
            self._stop_timer()
            self._timer = self.loop.call_later(seconds, self.transport.abort)

        def _stop_timer(self):
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    return LimitedProtocol
