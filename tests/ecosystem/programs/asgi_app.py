"""An ASGI application that answers whose process it runs in."""

from __future__ import annotations

import json
import os

import proof


async def app(scope, receive, send):
    if scope["type"] == "http":
        body = json.dumps({"home": proof.home(), "pid": os.getpid()}).encode()
        headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
