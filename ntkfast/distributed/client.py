"""Dask's client: the one that is given, or the current one, or a new one."""

from __future__ import annotations

import logging
from typing import Any

SECONDS = 10  # after which a scheduler that does not answer is not there


def current() -> Any:
    """The current client, if there is one; other schedulers have none."""
    try:
        from distributed import default_client

        return default_client()
    except (ImportError, ValueError):
        return None


def connected(cluster: str) -> Any:
    """A new client, as a context: of the scheduler at this address, or of so many workers of this machine."""
    from distributed import Client

    if cluster.isdecimal() and int(cluster) > 0:
        quiet = logging.ERROR  # a busy machine makes it warn of workers that start or end slowly, which changes nothing
        return Client(n_workers=int(cluster), threads_per_worker=1, dashboard_address=None, silence_logs=quiet)
    try:
        return Client(cluster, timeout=SECONDS)
    except (OSError, ValueError, TimeoutError) as error:
        hint = "" if "://" in cluster else "; expected tcp://HOST:PORT or a number of workers"
        raise ConnectionError(f"client: no scheduler answers at {cluster} ({type(error).__name__}){hint}") from None


def required(client: Any) -> Any:
    """client, or the current one; raise if there is none."""
    found = current() if client is None else client
    if found is None:
        raise ValueError("client: expected a distributed.Client, as there is no current one")
    return found
