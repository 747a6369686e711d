"""Asks a process of the stack over HTTP whether it is well."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request

# a proxy named in the environment must not stand between us and loopback
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def trouble(url: str, timeout: float = 2.0) -> str | None:
    """None when the URL answers 200, else in a few words what is wrong."""
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
