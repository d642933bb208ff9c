"""The limits: bare pyzmq without any feature, written in several ways."""
