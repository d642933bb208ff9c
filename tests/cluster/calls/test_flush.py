"""A service whose flush fails does not keep other services from starting their calls."""

from zmqservices.cluster.calls.server import CallServer


class Touched:
    def __init__(self, error=None):
        self.error = error
        self.is_flushed = False

    def flush(self):
        self.is_flushed = True
        if self.error is not None:
            raise self.error


def test_all_services_are_flushed_even_if_some_fail(caplog):
    call_server = CallServer.__new__(CallServer)
    to_flush = [Touched(ValueError("broken")) if number % 2 else Touched() for number in range(6)]
    call_server._to_flush = set(to_flush)

    call_server._flush_all()

    assert all(one.is_flushed for one in to_flush)
    assert caplog.text.count("could not be begun") == 3
