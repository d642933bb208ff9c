"""One kind of directory each; the client library that one needs is named in its file alone.

Internal. Programs use `discovery.open_directory`; `discovery.register_backend` adds a kind of directory.
"""
