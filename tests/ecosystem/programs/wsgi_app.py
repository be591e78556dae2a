"""A WSGI application whose requests are answered by a pool."""

from __future__ import annotations

import json
import multiprocessing
import os

import proof


def app(environ, start_response):
    with multiprocessing.Pool(2) as pool:
        answer = {"home": pool.apply(proof.home), "pid": os.getpid(), "map": pool.map(abs, [-1, 2])}
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(answer).encode()]
