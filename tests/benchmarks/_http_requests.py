"""Run the command line and note every HTTP request: python _http_requests.py OUT.json ARGUMENT..."""

import json
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import requests

FOUND: list[tuple[str, float, float]] = []
"""Server, start and end of each request, in seconds of one clock; requests of several threads overlap."""


def noting(send: Callable[..., Any]) -> Callable[..., Any]:
    def noted(client: Any, request: Any, **options: Any) -> Any:
        started = time.perf_counter()
        try:
            return send(client, request, **options)
        finally:
            FOUND.append((httpx.URL(str(request.url)).netloc.decode(), started, time.perf_counter()))

    return noted


def noting_async(send: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    async def noted(client: Any, request: Any, **options: Any) -> Any:
        started = time.perf_counter()
        try:
            return await send(client, request, **options)
        finally:
            FOUND.append((request.url.netloc.decode(), started, time.perf_counter()))

    return noted


def main() -> None:
    """Prefect speaks through httpx, MLflow through requests."""
    out = Path(sys.argv.pop(1))
    httpx.AsyncClient.send = noting_async(httpx.AsyncClient.send)  # type: ignore[method-assign]
    httpx.Client.send = noting(httpx.Client.send)  # type: ignore[method-assign]
    requests.Session.send = noting(requests.Session.send)  # type: ignore[method-assign]
    from flows.cli import main as potstill

    try:
        potstill()
    finally:
        out.write_text(json.dumps(FOUND))


if __name__ == "__main__":
    main()
