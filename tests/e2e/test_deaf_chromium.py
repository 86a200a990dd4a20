"""The browser of these tests hears of no network that comes or goes."""

import errno
import socket
import subprocess
import sys

from .conftest import CHROMIUM

TRY = """
import socket
from deaf_chromium import refuse_netlink
refuse_netlink()
socket.socket(socket.AF_INET).close()
socket.socket(socket.AF_UNIX).close()
try:
    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close()
except OSError as error:
    print(error.errno)
"""


def test_it_is_refused_the_socket_that_tells_of_networks():
    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close()  # else it would prove nothing
    done = subprocess.run(
        [sys.executable, "-c", TRY],
        cwd=CHROMIUM.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout.strip(), done.stderr) == (str(errno.EAFNOSUPPORT), "")
