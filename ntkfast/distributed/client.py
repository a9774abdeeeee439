"""Dask's client: the one that is given, or the current one."""

from __future__ import annotations

from typing import Any


def current() -> Any:
    """The current client, if there is one; other schedulers have none."""
    try:
        from distributed import default_client

        return default_client()
    except (ImportError, ValueError):
        return None


def required(client: Any) -> Any:
    """client, or the current one; raise if there is none."""
    found = current() if client is None else client
    if found is None:
        raise ValueError("client: expected a distributed.Client, as there is no current one")
    return found
