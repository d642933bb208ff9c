"""One kind of directory each; the client library that one needs is named in its file alone."""
