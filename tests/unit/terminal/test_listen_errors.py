"""A port that cannot be used is one sentence with the cause and the fix."""

import errno

import pytest

from fleetmedic.terminal.listen_errors import cannot_listen


@pytest.mark.parametrize(
    ("port", "code", "why"),
    [
        (80, errno.EACCES, "Permission denied; a port below 1024 requires root privileges"),
        (9090, errno.EACCES, "Permission denied"),
        (80, errno.EADDRINUSE, "Address already in use"),
    ],
)
def test_a_port_is_named_with_the_cause_and_the_fix(port: int, code: int, why: str) -> None:
    # the text of create_server repeats the address
    error = OSError(code, "... (while attempting to bind on address ('h', 1))")
    said = str(cannot_listen("127.0.0.1", port, error, "--web.listen-address"))
    assert (
        said == f"cannot listen on 127.0.0.1:{port} ({why}). Specify another --web.listen-address."
    )
