"""A service that reports on several files. It calls the words service, and keeps the results in a cache."""

from __future__ import annotations

from typing import Any

from examples.hello import Cache
from zmqservices.rpc import RpcProxy, rpc


class Report:
    name = "report"

    words = RpcProxy("words", timeout=10)
    cache = Cache()

    @rpc(idempotent=True)
    def report(self, paths: list[str]) -> dict[str, Any]:
        """Count the words of all `paths` together. Files that are not in the cache are counted in parallel."""
        unknown = [path for path in dict.fromkeys(paths) if self.cache.get(path) is None]
        calls = {path: self.words.count.call_async(path) for path in unknown}
        for path, call in calls.items():
            self.cache.set(path, call.result())
        counts = [self.cache.get(path) for path in paths]
        return {
            "files": len(paths),
            "asked": len(unknown),
            "words": sum(count["words"] for count in counts),
            "instances": sorted({count["instance"] for count in counts}),
        }
