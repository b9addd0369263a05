"""The network of a test's cluster is its own."""

import os
import socket
import threading

import pytest

from tests.fixtures.kube.kubelet.network import own_network

pytestmark = pytest.mark.integration
HERE = "/proc/thread-self/ns/net"


def test_addresses_are_there_while_it_is_entered_and_for_what_it_starts() -> None:
    before = os.stat(HERE).st_ino
    with own_network() as network:
        address, answered = network.address(), []
        with socket.create_server((address, 0)) as server:

            def call() -> None:
                with socket.create_connection(server.getsockname()[:2], timeout=5) as made:
                    answered.append(made.getsockname()[0])

            thread = threading.Thread(target=call)
            thread.start()
            server.accept()[0].close()
            thread.join()
        assert answered
        assert os.stat(HERE).st_ino != before
        with pytest.raises(OSError, match="unreachable"), socket.socket() as elsewhere:
            elsewhere.connect(("192.0.2.1", 9))
    assert os.stat(HERE).st_ino == before
    with pytest.raises(OSError, match="assign"), socket.socket() as gone:
        gone.bind((address, 0))


def test_an_error_within_leads_back_as_well() -> None:
    before = os.stat(HERE).st_ino
    with pytest.raises(RuntimeError), own_network():
        raise RuntimeError
    assert os.stat(HERE).st_ino == before
