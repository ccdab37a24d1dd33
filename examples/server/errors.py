"""What a client is told of a request that has no answer."""


class RequestError(Exception):
    """A message for the client.

    Args:
        status: Integer, the HTTP status code.
        message: String.
    """

    def __init__(self, status, message):
        super().__init__(message)
        self.status = status
