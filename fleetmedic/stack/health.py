"""The HTTP health check of the stack's processes."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request

# a proxy from the environment must not be used for loopback
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def health_problem(url: str, timeout: float = 2.0) -> str | None:
    """Return None if the URL returns status 200, otherwise a short description of the failure."""
    try:
        with _OPENER.open(url, timeout=timeout) as answer:
            answer.read(65_536)
            return None if answer.status == 200 else f"HTTP {answer.status}"
    except urllib.error.HTTPError as error:
        return f"HTTP {error.code}"
    except urllib.error.URLError as error:
        reason = error.reason
        return getattr(reason, "strerror", None) or str(reason)
    except (OSError, http.client.HTTPException) as error:
        return str(error) or type(error).__name__
