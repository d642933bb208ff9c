"""HTTP and WebSocket: `zmqservices.web.handlers.http` and `zmqservices.web.websocket.rpc` make methods callable by browsers."""
