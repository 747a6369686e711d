"""The readiness check of the stack's processes, over HTTP."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request

# a proxy from the environment must not be used for loopback
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


# The path of the readiness check. `rules` is ready only after its first run, which can take minutes,
# and nothing waits for it, so the liveness of `rules` is sufficient.
_READY = {"pool": "/healthz", "rules": "/-/healthy"}
MAX_REASON = 200


def ready_url(name: str, url: str) -> str:
    """Return the URL that returns 200 if the process of that name and URL is ready, by default /-/ready."""
    return url + _READY.get(name, "/-/ready")


def health_problem(url: str, timeout: float = 2.0) -> str | None:
    """Return None if the URL returns status 200, otherwise the status and the first line of the body,
    or a short description of the failure."""
    try:
        with _OPENER.open(url, timeout=timeout) as answer:
            answer.read(65_536)
            return None if answer.status == 200 else f"HTTP {answer.status}"
    except urllib.error.HTTPError as error:
        with error:
            return f"HTTP {error.code}{_reason(error)}"
    except urllib.error.URLError as error:
        reason = error.reason
        return getattr(reason, "strerror", None) or str(reason)
    except (OSError, http.client.HTTPException) as error:
        return str(error) or type(error).__name__


def _reason(error: urllib.error.HTTPError) -> str:
    try:
        lines = error.read(2000).decode(errors="replace").strip().splitlines()
    except (OSError, http.client.HTTPException):
        return ""
    return f": {lines[0][:MAX_REASON]}" if lines else ""
