"""The limits: bare pyzmq, with no feature at all, written in several ways."""
