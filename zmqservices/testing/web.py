"""A `requests.Session` for one web service of the same process. The only file that needs requests."""

from __future__ import annotations

from typing import Any
from urllib.parse import urljoin

import gevent
from gevent.monkey import is_module_patched

try:
    import requests
except ImportError as error:
    raise ImportError("requests is not installed; `pip install zmqservices[testing]` brings it") from error

__all__ = ["WebSession"]


class WebSession(requests.Session):
    """A session that takes paths instead of URLs. In a process that is not patched, requests run in another thread."""

    def __init__(self, base_url: str) -> None:
        super().__init__()
        self.base_url = base_url
        # Ignore proxies of the environment, because the test and the service are in one process.
        self.trust_env = False

    def request(self, method: str | bytes, url: str | bytes, *args: Any, **kwargs: Any) -> requests.Response:
        """As `requests.request`; `url` is a path of the service."""
        return super().request(method, urljoin(self.base_url, str(url)), *args, **kwargs)

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """Send the request, and let other greenlets run meanwhile."""
        if is_module_patched("socket"):
            return super().send(request, **kwargs)
        answer: requests.Response = gevent.get_hub().threadpool.apply(super().send, (request,), kwargs)
        return answer
