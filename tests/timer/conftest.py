"""The fixtures of the tests of calls serve here, too."""

from tests.fixtures import bound_on_time, cluster_config, connect, registry_url, serve

__all__ = ["bound_on_time", "cluster_config", "connect", "registry_url", "serve"]
