"""HTTP connections that end: uvicorn's, with limits for what a client does not send."""

import collections

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


def limited_protocol(seconds, most):
    """The class of connections that uvicorn is to use.

    A client has so many seconds to send a request, and again to take its answer. Then
    the connection is closed, whatever is half sent.

    Args:
        seconds: Number.
        most: Integer, the connections of an address at the same time.
    """
    of_address = collections.Counter()

    class LimitedProtocol(H11Protocol):
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
            if self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):
                # The request is here as a whole: now the server is to answer.
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
