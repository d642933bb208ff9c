"""The names of configuration keys and context headers, and the defaults that go with them."""

# --- the directory, and the addresses of this process -----------------------------------------------------------
DIRECTORY_CONFIG_KEY = "DIRECTORY"
NAMESPACE_CONFIG_KEY = "NAMESPACE"
BIND_ADDRESS_CONFIG_KEY = "BIND_ADDRESS"
ADVERTISE_ADDRESS_CONFIG_KEY = "ADVERTISE_ADDRESS"
DIRECTORY_CACHE_CONFIG_KEY = "DIRECTORY_CACHE"
DIRECTORY_TTL_CONFIG_KEY = "DIRECTORY_TTL"
DIRECTORY_ENVIRONMENT_KEY = "ZMQSERVICES_DIRECTORY"
NAMESPACE_ENVIRONMENT_KEY = "ZMQSERVICES_NAMESPACE"
#: The folder of this node's keys. If it is set, connections are encrypted.
SECURITY_CONFIG_KEY = "SECURITY"
SECURITY_ENVIRONMENT_KEY = "ZMQSERVICES_SECURITY"
#: Whether calls, events and registries may listen beyond loopback without SECURITY.
INSECURE_CONFIG_KEY = "INSECURE"
INSECURE_ENVIRONMENT_KEY = "ZMQSERVICES_INSECURE"
DEFAULT_INSECURE = False
#: The policy file: rules that add to certificates.
POLICY_CONFIG_KEY = "POLICY"
DEFAULT_DIRECTORY = "local:"
DEFAULT_NAMESPACE = "default"
#: Loopback by default, so that a service is reachable from other hosts only on request.
DEFAULT_BIND_ADDRESS = "tcp://127.0.0.1:0"
#: Seconds that a lease lasts without renewal.
DEFAULT_DIRECTORY_TTL = 10.0

#: Whether `zmqservices run` also lists services that otherwise take no part in the cluster, such as those with only @http.
ANNOUNCE_CONFIG_KEY = "ANNOUNCE"
PROBES_CONFIG_KEY = "PROBES"
METRICS_ADDRESS_CONFIG_KEY = "METRICS_ADDRESS"
#: Whether calls, events, requests and ticks become spans for OpenTelemetry.
OTEL_CONFIG_KEY = "OTEL"
DEFAULT_OTEL = False
STATISTICS_CONFIG_KEY = "STATISTICS"
DEFAULT_STATISTICS = False
LOG_FORMAT_CONFIG_KEY = "LOG_FORMAT"
DEFAULT_LOG_FORMAT = "text"
LOG_TRACEBACKS_CONFIG_KEY = "LOG_TRACEBACKS"
DEFAULT_LOG_TRACEBACKS = "short"
ACCESS_LOG_CONFIG_KEY = "ACCESS_LOG"
DEFAULT_ACCESS_LOG = False
SLOW_CALL_THRESHOLD_CONFIG_KEY = "slow_call_threshold"
DEFAULT_ANNOUNCE = True
#: A file that exists, and an address (HOST:PORT) that accepts connections, while all services of `zmqservices run` are up.
READY_FILE_CONFIG_KEY = "READY_FILE"
READY_ADDRESS_CONFIG_KEY = "READY_ADDRESS"
#: The tag of a record that lists routes, timers and handlers.
LISTED_ENTRYPOINTS_TAG = "entrypoints"

# --- calls -------------------------------------------------------------------------------------------------------------
RPC_TIMEOUT_CONFIG_KEY = "rpc_timeout"
RPC_WAIT_FOR_SERVICE_CONFIG_KEY = "rpc_wait_for_service"
RPC_TRACEBACKS_CONFIG_KEY = "rpc_tracebacks"
RPC_RETRY_RATIO_CONFIG_KEY = "rpc_retry_ratio"
RPC_RETRIES_PER_SECOND_CONFIG_KEY = "rpc_retries_per_second"
RPC_HEDGE_CONFIG_KEY = "rpc_hedge"
RPC_EJECTION_CONFIG_KEY = "rpc_ejection"
RPC_EJECTION_FAILURES_CONFIG_KEY = "rpc_ejection_failures"
RPC_EJECTION_ERROR_RATE_CONFIG_KEY = "rpc_ejection_error_rate"
RPC_EJECTION_LATENCY_CONFIG_KEY = "rpc_ejection_latency"
ZONE_CONFIG_KEY = "ZONE"
WEIGHT_CONFIG_KEY = "WEIGHT"
RPC_ZONE_PREFERENCE_CONFIG_KEY = "rpc_zone_preference"
RPC_SLOW_START_CONFIG_KEY = "rpc_slow_start"
MAX_QUEUED_CALLS_CONFIG_KEY = "max_queued_calls"
MAX_QUEUED_SECONDS_CONFIG_KEY = "max_queued_seconds"
MAX_QUEUED_BYTES_CONFIG_KEY = "max_queued_bytes"
MAX_MESSAGE_SIZE_CONFIG_KEY = "max_message_size"
DRAIN_TIMEOUT_CONFIG_KEY = "drain_timeout"
MAX_CLIENTS_CONFIG_KEY = "max_clients"
MAX_CALLS_PER_CLIENT_CONFIG_KEY = "max_calls_per_client"
MAX_UNREAD_BYTES_CONFIG_KEY = "max_unread_bytes"
HANDSHAKES_PER_SECOND_CONFIG_KEY = "handshakes_per_second"
MAX_HELLO_SIZE_CONFIG_KEY = "max_hello_size"
HELLO_TIMEOUT_CONFIG_KEY = "hello_timeout"
MAX_FAULTS_PER_SECOND_CONFIG_KEY = "max_faults_per_second"
MAX_HEADERS_CONFIG_KEY = "max_headers"
MAX_HEADERS_SIZE_CONFIG_KEY = "max_headers_size"
#: Seconds that a call may take by default.
DEFAULT_RPC_TIMEOUT = 30.0
#: Seconds that a call waits for a first instance of its service, which bridges a restart.
DEFAULT_RPC_WAIT_FOR_SERVICE = 2.0
#: The retry budget for calls that may have run: repeats per call of the service, and repeats per second in addition.
DEFAULT_RPC_RETRY_RATIO = 0.2
DEFAULT_RPC_RETRIES_PER_SECOND = 10.0
#: Whether slow calls of all idempotent methods are also sent to a second instance.
DEFAULT_RPC_HEDGE = False
#: Seconds of the first outlier ejection of an instance.
DEFAULT_RPC_EJECTION = 10.0
#: An instance is an outlier by failures in a row, by the part of its calls that failed, or by being so many times slower.
DEFAULT_RPC_EJECTION_FAILURES = 5
DEFAULT_RPC_EJECTION_ERROR_RATE = 0.5
DEFAULT_RPC_EJECTION_LATENCY = 10.0
#: The share of calls that an instance gets, compared with others.
DEFAULT_WEIGHT = 1.0
#: The calls in flight that are added to those of an instance in another zone.
DEFAULT_RPC_ZONE_PREFERENCE = 10.0
#: Seconds over which the share of a new instance grows to its full size; 0 gives it the full share at once.
DEFAULT_RPC_SLOW_START = 0.0
#: The most calls per service that wait for a worker. Further calls are refused as Overloaded.
DEFAULT_MAX_QUEUED_CALLS = 10_000
#: If the oldest of these calls has waited longer than this many seconds, further calls are refused; None: no limit.
DEFAULT_MAX_QUEUED_SECONDS = None
#: The most bytes of these calls.
DEFAULT_MAX_QUEUED_BYTES = 256 * 1024 * 1024
#: The most bytes of one message. The sender checks it, and the receiver enforces it.
DEFAULT_MAX_MESSAGE_SIZE = 64 * 1024 * 1024
#: Seconds that a stopping service waits for its running calls before they are cancelled.
DEFAULT_DRAIN_TIMEOUT = 30.0

#: The most nodes that are connected to the call server of a process.
DEFAULT_MAX_CLIENTS = 10_000
#: The most open calls of one client; None: as many as the service's queue takes.
DEFAULT_MAX_CALLS_PER_CLIENT = None
#: The most bytes of answers and events that wait for one client. For all clients together it is twice as many.
DEFAULT_MAX_UNREAD_BYTES = 128 * 1024 * 1024
#: The most handshakes of encrypted connections per second; four times as many after a quiet time.
DEFAULT_HANDSHAKES_PER_SECOND = 500
#: The most bytes of a message that is decoded before its sender has said HELLO.
DEFAULT_MAX_HELLO_SIZE = 64 * 1024
#: Seconds for which a connection may be without a valid HELLO. A client in a plain thread sends none between its calls, over a
#: link that was lost and has come back. When it is cut off it connects again, and this should not happen often.
DEFAULT_HELLO_TIMEOUT = 300.0
#: Messages of one client in a second that are none of the protocol, before what it sends is dropped for a while. An honest client
#: sends none, or few at once before it reads the answer to the first.
DEFAULT_MAX_FAULTS_PER_SECOND = 20
#: Headers of a call or an event, and their bytes. So many that messages of 8 KiB and less need not be looked at.
DEFAULT_MAX_HEADERS = 4096
DEFAULT_MAX_HEADERS_SIZE = 64 * 1024

# --- events ------------------------------------------------------------------------------------------------------------
JOURNAL_FOLDER_CONFIG_KEY = "JOURNAL_FOLDER"
JOURNAL_SYNC_CONFIG_KEY = "JOURNAL_SYNC"
JOURNAL_MAX_BYTES_CONFIG_KEY = "JOURNAL_MAX_BYTES"
JOURNAL_MAX_AGE_CONFIG_KEY = "JOURNAL_MAX_AGE"
JOURNAL_RETENTION_CONFIG_KEY = "JOURNAL_RETENTION"
JOURNAL_WHEN_FULL_CONFIG_KEY = "JOURNAL_WHEN_FULL"
JOURNAL_FULL_TIMEOUT_CONFIG_KEY = "JOURNAL_FULL_TIMEOUT"
EVENTS_BIND_ADDRESS_CONFIG_KEY = "EVENTS_BIND_ADDRESS"
EVENTS_ACK_WAIT_CONFIG_KEY = "events_ack_wait"
EVENTS_BACKOFF_CONFIG_KEY = "events_backoff"
EVENTS_BACKOFF_MAX_CONFIG_KEY = "events_backoff_max"
EVENTS_MAX_DELIVERIES_CONFIG_KEY = "events_max_deliveries"
EVENTS_ON_ERROR_CONFIG_KEY = "events_on_error"
EVENTS_GROUP_EXPIRES_AFTER_CONFIG_KEY = "events_group_expires_after"
EVENTS_WAIT_FOR_PEERS_CONFIG_KEY = "events_wait_for_peers"
EVENTS_LINGER_CONFIG_KEY = "events_linger"
EVENTS_MAX_SUBSCRIPTIONS_CONFIG_KEY = "events_max_subscriptions"
EVENTS_MAX_GROUPS_CONFIG_KEY = "events_max_groups"
#: "normal": no event is lost if the process dies. "full": nor after a power cut, at the cost of a disk flush per commit.
DEFAULT_JOURNAL_SYNC = "normal"
#: The most bytes of one journal.
DEFAULT_JOURNAL_MAX_BYTES = 1024 * 1024 * 1024
#: Seconds for which events that all groups have handled are kept for replays.
DEFAULT_JOURNAL_RETENTION = 3600.0
#: What happens when a journal is full: "block" or "drop-oldest".
DEFAULT_JOURNAL_WHEN_FULL = "block"
#: Seconds that a dispatch waits for room in a full journal.
DEFAULT_JOURNAL_FULL_TIMEOUT = 10.0
#: Seconds without a sign of life after which a member's events go to others.
DEFAULT_EVENTS_ACK_WAIT = 30.0
#: The longest pause before the second delivery of an event whose handler failed, in seconds. It doubles with each delivery.
DEFAULT_EVENTS_BACKOFF = 0.5
#: The longest pause before any delivery, in seconds.
DEFAULT_EVENTS_BACKOFF_MAX = 60.0
#: Deliveries after which an event becomes a dead letter.
DEFAULT_EVENTS_MAX_DELIVERIES = 10
#: What happens to a reliable event whose handler raised: "retry" or "drop".
DEFAULT_EVENTS_ON_ERROR = "retry"
#: Seconds without a member after which no events are kept for a group: a week.
DEFAULT_EVENTS_GROUP_EXPIRES_AFTER = 604_800.0
#: Seconds that a starting handler waits for listed publishers, and a starting publisher for listed handlers.
DEFAULT_EVENTS_WAIT_FOR_PEERS = 2.0
#: Seconds that an ending program waits for its last events to be handled.
DEFAULT_EVENTS_LINGER = 5.0
#: The most subscriptions of one node at a publisher, and the most groups for which one source keeps events.
DEFAULT_EVENTS_MAX_SUBSCRIPTIONS = 1_000
DEFAULT_EVENTS_MAX_GROUPS = 10_000

# --- heartbeats --------------------------------------------------------------------------------------------------------
HEARTBEAT_CONFIG_KEY = "HEARTBEAT"
#: Seconds between heartbeats of a link. A link is given up after three without an answer.
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
WEB_SERVER_HEADER_TIMEOUT_CONFIG_KEY = "WEB_SERVER_HEADER_TIMEOUT"
WEB_SERVER_MIN_BODY_RATE_CONFIG_KEY = "WEB_SERVER_MIN_BODY_RATE"
WEB_SERVER_MAX_HEADERS_CONFIG_KEY = "WEB_SERVER_MAX_HEADERS"
WEB_SERVER_MAX_HEADERS_SIZE_CONFIG_KEY = "WEB_SERVER_MAX_HEADERS_SIZE"
WEB_SERVER_MAX_CONNECTIONS_CONFIG_KEY = "WEB_SERVER_MAX_CONNECTIONS"
#: Whether `zmqservices run` serves the OpenAPI document of @http methods at /openapi.json.
OPENAPI_CONFIG_KEY = "OPENAPI"
DEFAULT_OPENAPI = False
WEB_SERVER_CORS_CONFIG_KEY = "WEB_SERVER_CORS"
WEBSOCKET_PATH_CONFIG_KEY = "WEBSOCKET_PATH"
WEBSOCKET_MAX_MESSAGE_CONFIG_KEY = "WEBSOCKET_MAX_MESSAGE"
WEBSOCKET_MAX_CALLS_CONFIG_KEY = "WEBSOCKET_MAX_CALLS"
WEBSOCKET_MAX_QUEUED_BYTES_CONFIG_KEY = "WEBSOCKET_MAX_QUEUED_BYTES"
WEBSOCKET_PING_INTERVAL_CONFIG_KEY = "WEBSOCKET_PING_INTERVAL"
DEFAULT_WEB_SERVER_ADDRESS = "0.0.0.0:8000"
DEFAULT_WEB_SERVER_REUSE_PORT = False
#: The most bytes of a request's body.
DEFAULT_WEB_SERVER_MAX_BODY = 16 * 1024 * 1024
#: Seconds without a byte from a client, or to it, after which its connection is closed.
DEFAULT_WEB_SERVER_IDLE_TIMEOUT = 75.0
#: Seconds from the first byte of a request to the end of its headers.
DEFAULT_WEB_SERVER_HEADER_TIMEOUT = 20.0
#: The fewest bytes per second at which a body must arrive. It may be slower for a short time.
DEFAULT_WEB_SERVER_MIN_BODY_RATE = 240
#: The most header lines of a request, and the most bytes of all of them.
DEFAULT_WEB_SERVER_MAX_HEADERS = 100
DEFAULT_WEB_SERVER_MAX_HEADERS_SIZE = 64 * 1024
#: The most connections at one address, including WebSockets.
DEFAULT_WEB_SERVER_MAX_CONNECTIONS = 10_000
DEFAULT_WEBSOCKET_PATH = "/ws"
#: The most bytes of a message from a client.
DEFAULT_WEBSOCKET_MAX_MESSAGE = 1024 * 1024
#: The most calls of one connection that run or wait. The next one is read once one of them is answered.
DEFAULT_WEBSOCKET_MAX_CALLS = 32
#: If more bytes than this wait for a client that does not read, it is disconnected.
DEFAULT_WEBSOCKET_MAX_QUEUED_BYTES = 4 * 1024 * 1024
#: Seconds between pings. A client that does not answer two of them is disconnected.
DEFAULT_WEBSOCKET_PING_INTERVAL = 20.0

# --- names that Nameko applications import; settings of brokers are accepted and have no effect here --------------------
AMQP_URI_CONFIG_KEY = "AMQP_URI"
AMQP_SSL_CONFIG_KEY = "AMQP_SSL"
RPC_EXCHANGE_CONFIG_KEY = "rpc_exchange"
TRANSPORT_OPTIONS_CONFIG_KEY = "TRANSPORT_OPTIONS"
LOGIN_METHOD_CONFIG_KEY = "LOGIN_METHOD"
DEFAULT_RETRY_POLICY = {"max_retries": 3}
DEFAULT_TRANSPORT_OPTIONS = {"max_retries": 3, "interval_start": 2, "interval_step": 1, "interval_max": 5}

# --- context headers ---------------------------------------------------------------------------------------------------
CALL_ID_STACK_CONTEXT_KEY = "call_id_stack"
AUTH_TOKEN_CONTEXT_KEY = "auth_token"  # nosec B105  # a name
LANGUAGE_CONTEXT_KEY = "language"
USER_ID_CONTEXT_KEY = "user_id"
USER_AGENT_CONTEXT_KEY = "user_agent"
#: The name that an outbox gave an event. It is sent with the event, but not with calls that its handler makes.
OUTBOX_ID_CONTEXT_KEY = "outbox_id"
HEADER_PREFIX = "nameko"
NON_PERSISTENT = 1
PERSISTENT = 2
