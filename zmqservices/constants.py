"""The names of configuration keys and context headers, and the defaults that go with them."""

# --- where this process is, and who tells it of the others -----------------------------------------------------------
DIRECTORY_CONFIG_KEY = "DIRECTORY"
NAMESPACE_CONFIG_KEY = "NAMESPACE"
BIND_ADDRESS_CONFIG_KEY = "BIND_ADDRESS"
ADVERTISE_ADDRESS_CONFIG_KEY = "ADVERTISE_ADDRESS"
DIRECTORY_CACHE_CONFIG_KEY = "DIRECTORY_CACHE"
DIRECTORY_TTL_CONFIG_KEY = "DIRECTORY_TTL"
DIRECTORY_ENVIRONMENT_KEY = "ZMQSERVICES_DIRECTORY"
NAMESPACE_ENVIRONMENT_KEY = "ZMQSERVICES_NAMESPACE"
DEFAULT_DIRECTORY = "local:"
DEFAULT_NAMESPACE = "default"
#: Loopback unless told otherwise: a service is reachable from other hosts only when somebody asked for it.
DEFAULT_BIND_ADDRESS = "tcp://127.0.0.1:0"
#: Seconds that a lease lives without renewal.
DEFAULT_DIRECTORY_TTL = 10.0

# --- calls -------------------------------------------------------------------------------------------------------------
RPC_TIMEOUT_CONFIG_KEY = "rpc_timeout"
RPC_WAIT_FOR_SERVICE_CONFIG_KEY = "rpc_wait_for_service"
RPC_TRACEBACKS_CONFIG_KEY = "rpc_tracebacks"
MAX_QUEUED_CALLS_CONFIG_KEY = "max_queued_calls"
MAX_QUEUED_BYTES_CONFIG_KEY = "max_queued_bytes"
MAX_MESSAGE_SIZE_CONFIG_KEY = "max_message_size"
DRAIN_TIMEOUT_CONFIG_KEY = "drain_timeout"
#: Seconds that a call may take when nobody says otherwise.
DEFAULT_RPC_TIMEOUT = 30.0
#: Seconds that a call waits for a first instance of its service, so that a restart is bridged.
DEFAULT_RPC_WAIT_FOR_SERVICE = 2.0
#: Calls that may wait for a worker, per service; one more is refused as Overloaded.
DEFAULT_MAX_QUEUED_CALLS = 10_000
#: Bytes of those calls.
DEFAULT_MAX_QUEUED_BYTES = 256 * 1024 * 1024
#: Bytes of one message; checked at the sender, enforced at the receiver.
DEFAULT_MAX_MESSAGE_SIZE = 64 * 1024 * 1024
#: Seconds that a stopping service waits for its running calls before they are cancelled.
DEFAULT_DRAIN_TIMEOUT = 30.0

# --- heartbeats --------------------------------------------------------------------------------------------------------
HEARTBEAT_CONFIG_KEY = "HEARTBEAT"
#: Seconds between heartbeats of a link; a link is given up after three without an answer.
DEFAULT_HEARTBEAT = 2.0

# --- hosting -----------------------------------------------------------------------------------------------------------
MAX_WORKERS_CONFIG_KEY = "max_workers"
PARENT_CALLS_CONFIG_KEY = "parent_calls_tracked"
SERVICE_CONTAINER_CONFIG_KEY = "SERVICE_CONTAINER_CLS"
LOGGING_CONFIG_KEY = "LOGGING"
DEFAULT_MAX_WORKERS = 10
DEFAULT_PARENT_CALLS_TRACKED = 10

# --- serialization -----------------------------------------------------------------------------------------------------
SERIALIZER_CONFIG_KEY = "serializer"
SERIALIZERS_CONFIG_KEY = "SERIALIZERS"
ACCEPT_CONFIG_KEY = "ACCEPT"
DEFAULT_SERIALIZER = "msgpack"

# --- web ---------------------------------------------------------------------------------------------------------------
WEB_SERVER_CONFIG_KEY = "WEB_SERVER_ADDRESS"
WEB_SERVER_REUSE_PORT_CONFIG_KEY = "WEB_SERVER_REUSE_PORT"
WEB_SERVER_MAX_BODY_CONFIG_KEY = "WEB_SERVER_MAX_BODY"
WEB_SERVER_IDLE_TIMEOUT_CONFIG_KEY = "WEB_SERVER_IDLE_TIMEOUT"
WEB_SERVER_CORS_CONFIG_KEY = "WEB_SERVER_CORS"
WEBSOCKET_PATH_CONFIG_KEY = "WEBSOCKET_PATH"
WEBSOCKET_MAX_MESSAGE_CONFIG_KEY = "WEBSOCKET_MAX_MESSAGE"
WEBSOCKET_MAX_CALLS_CONFIG_KEY = "WEBSOCKET_MAX_CALLS"
WEBSOCKET_MAX_QUEUED_BYTES_CONFIG_KEY = "WEBSOCKET_MAX_QUEUED_BYTES"
WEBSOCKET_PING_INTERVAL_CONFIG_KEY = "WEBSOCKET_PING_INTERVAL"
DEFAULT_WEB_SERVER_ADDRESS = "0.0.0.0:8000"
DEFAULT_WEB_SERVER_REUSE_PORT = False
#: Bytes of a request's body.
DEFAULT_WEB_SERVER_MAX_BODY = 16 * 1024 * 1024
#: Seconds without a byte from a client, or to it, after which its connection is closed.
DEFAULT_WEB_SERVER_IDLE_TIMEOUT = 75.0
DEFAULT_WEBSOCKET_PATH = "/ws"
#: Bytes of a message from a client.
DEFAULT_WEBSOCKET_MAX_MESSAGE = 1024 * 1024
#: Calls of one connection that run or wait at once; the next one is read when one of them is answered.
DEFAULT_WEBSOCKET_MAX_CALLS = 32
#: Bytes that wait for a client that does not read, before it is given up.
DEFAULT_WEBSOCKET_MAX_QUEUED_BYTES = 4 * 1024 * 1024
#: Seconds between pings; a client that leaves two without an answer is given up.
DEFAULT_WEBSOCKET_PING_INTERVAL = 20.0

# --- names that Nameko applications import; brokers' own settings are accepted and mean nothing here --------------------
AMQP_URI_CONFIG_KEY = "AMQP_URI"
AMQP_SSL_CONFIG_KEY = "AMQP_SSL"
RPC_EXCHANGE_CONFIG_KEY = "rpc_exchange"
TRANSPORT_OPTIONS_CONFIG_KEY = "TRANSPORT_OPTIONS"
LOGIN_METHOD_CONFIG_KEY = "LOGIN_METHOD"
DEFAULT_RETRY_POLICY = {"max_retries": 3}
DEFAULT_TRANSPORT_OPTIONS = {"max_retries": 3, "interval_start": 2, "interval_step": 1, "interval_max": 5}

# --- context headers ---------------------------------------------------------------------------------------------------
CALL_ID_STACK_CONTEXT_KEY = "call_id_stack"
AUTH_TOKEN_CONTEXT_KEY = "auth_token"
LANGUAGE_CONTEXT_KEY = "language"
USER_ID_CONTEXT_KEY = "user_id"
USER_AGENT_CONTEXT_KEY = "user_agent"
HEADER_PREFIX = "nameko"
NON_PERSISTENT = 1
PERSISTENT = 2
