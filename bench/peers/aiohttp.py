"""aiohttp on both sides: JSON over kept-alive HTTP connections; a payload is a plain body."""

from __future__ import annotations

from typing import Any

from bench.subject import Subject, parse

#: Bytes of a body that the server accepts; the default is 1 MiB exactly.
MAX_BODY = 64 * 2**20


class Aiohttp(Subject):
    """A handler for each method."""

    name = "aiohttp"
    about = "aiohttp, JSON"
    requirements = ("aiohttp",)
    modules = ("aiohttp",)
    style = "asyncio"

    def serve(self, address: str) -> None:
        from aiohttp import web

        async def add(request: Any) -> Any:
            body = await request.json()
            return web.json_response({"value": body["a"] + body["b"]})

        async def echo(request: Any) -> Any:
            return web.Response(body=await request.read())

        app = web.Application(client_max_size=MAX_BODY)
        app.add_routes([web.post("/add", add), web.post("/echo", echo)])
        host, port = parse(address)
        web.run_app(app, host=host, port=port, access_log=None, print=lambda *words: None)

    async def connect(self, address: str) -> HttpConnection:
        import aiohttp

        return HttpConnection(f"http://{address}", aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))


class HttpConnection:
    """A session that keeps a connection for each call in flight."""

    def __init__(self, url: str, session: Any) -> None:
        self._session, self._add, self._echo = session, f"{url}/add", f"{url}/echo"

    async def add(self, a: int, b: int) -> Any:
        async with self._session.post(self._add, json={"a": a, "b": b}) as response:
            return (await response.json())["value"]

    async def echo(self, blob: bytes) -> Any:
        async with self._session.post(self._echo, data=blob) as response:
            return await response.read()
