"""@http methods over real sockets: what they may return and raise, and the answers that clients get."""

import io
import logging
from http import HTTPStatus

import gevent
import pytest
import werkzeug.exceptions
from gevent.event import Event
from werkzeug.wrappers import Response

from tests.hosting.stage import Recorder
from tests.stage import Context, Gate, until
from zmqservices.exceptions import BadRequest, ConfigurationError
from zmqservices.web.handlers import HttpRequestHandler, http
from zmqservices.web.server import WebServer


def answering(result):
    """A service whose method returns `result`, or what that returns when it is called."""

    class Service:
        name = "service"

        @http("GET", "/")
        def get(self, request):
            return result() if callable(result) else result

    return Service


# --- requests ------------------------------------------------------------------------------------------------------


def test_the_method_gets_the_request_and_the_parameters_of_the_url(serve):
    class Service:
        name = "service"

        @http("GET", "/things/<int:number>/<name>")
        def get(self, request, number, name):
            return f"{number + 1} {name} {request.args['q']} {request.headers['X-Word']}"

    answer = serve(Service).ask("GET", "/things/41/a%20name?q=1", headers={"X-Word": "word"})

    assert (answer.status, answer.text) == (200, "42 a name 1 word")


def test_several_methods_with_commas(serve):
    class Service:
        name = "service"

        @http("GET, put", "/")
        def both(self, request):
            return request.method

    web = serve(Service)

    assert [web.ask(method, "/").text for method in ("GET", "PUT")] == ["GET", "PUT"]
    assert web.ask("POST", "/").status == 405


def test_the_body_is_read_as_text_json_and_form(serve):
    class Service:
        name = "service"

        @http("POST", "/text")
        def text(self, request):
            return request.get_data(as_text=True)

        @http("POST", "/json")
        def json(self, request):
            return request.get_json()

        @http("POST", "/form")
        def form(self, request):
            return request.form["word"]

    web = serve(Service)

    assert web.ask("POST", "/text", "grüße".encode()).text == "grüße"
    assert web.ask("POST", "/json", '{"a": [1]}', {"Content-Type": "application/json"}).json == {"a": [1]}
    assert web.ask("POST", "/form", "word=x%20y", {"Content-Type": "application/x-www-form-urlencoded"}).text == "x y"


def test_a_body_in_chunks_is_read(serve):
    class Service:
        name = "service"

        @http("POST", "/")
        def post(self, request):
            return request.get_data()

    answer = serve(Service).ask("POST", "/", iter([b"some", b"thing"]), {"Transfer-Encoding": "chunked"}, encode_chunked=True)

    assert answer.body == b"something"


def test_one_connection_carries_many_requests(serve):
    connection = serve(answering("hello")).connect()

    assert [connection.ask("GET", "/").text for _ in range(3)] == ["hello"] * 3


def test_requests_run_in_parallel(serve):
    class Service:
        name = "service"
        gate = Gate()

        @http("GET", "/")
        def get(self, request):
            self.gate()
            return ""

    web = serve(Service)
    asking = [web.asking("GET", "/") for _ in range(3)]
    Service.gate.wait_for(3)
    Service.gate.open()

    assert [one.get().status for one in asking] == [200] * 3


# --- results -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "result, status, kind, body",
    [
        ("grüße", 200, "text/plain; charset=utf-8", "grüße".encode()),
        ("", 200, "text/plain; charset=utf-8", b""),
        (b"\x00\xff", 200, "application/octet-stream", b"\x00\xff"),
        ({"a": [1, None]}, 200, "application/json", b'{"a": [1, null]}'),
        ([1, "b"], 200, "application/json", b'[1, "b"]'),
        ((201, "made"), 201, "text/plain; charset=utf-8", b"made"),
        ((HTTPStatus.CREATED, "made"), 201, "text/plain; charset=utf-8", b"made"),
        ((202, {"Content-Type": "text/css"}, "x"), 202, "text/css", b"x"),
        ((404, {}, {"error": "gone"}), 404, "application/json", b'{"error": "gone"}'),
        (lambda: Response("made by hand", 418, mimetype="text/x"), 418, "text/x; charset=utf-8", b"made by hand"),
        (lambda: iter(["one", b"two"]), 200, "text/plain; charset=utf-8", b"onetwo"),
    ],
)
def test_semantic_49_what_a_method_may_return(serve, result, status, kind, body):
    answer = serve(answering(result)).get("/")

    assert (answer.status, answer.headers["Content-Type"], answer.body) == (status, kind, body)


@pytest.mark.parametrize(
    "result", [None, 7, object(), (1, 2, 3, 4), ("200", "x"), (99, "x"), (200, 7), {"day": {1}}, [float("nan")]]
)
def test_semantic_49_any_other_result_is_an_error_that_dependencies_get(serve, result, caplog):
    class Service(answering(result)):
        recorder = Recorder()

    web = serve(Service)
    answer = web.get("/")

    assert (answer.status, answer.text) == (500, "Error: Internal Server Error\n")
    assert "could not be sent" in caplog.text
    (recorder,) = web.container.dependencies
    until(lambda: len(recorder.calls) == 4)
    assert recorder.calls[2][3] in (TypeError, ValueError)


def test_headers_may_be_given_more_than_once(serve):
    answer = serve(answering((200, [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")], ""))).get("/")

    assert answer.headers.get_all("Set-Cookie") == ["a=1", "b=2"]


# --- errors --------------------------------------------------------------------------------------------------------


def raising(exc, **options):
    class Service:
        name = "service"

        @http("GET", "/", **options)
        def get(self, request):
            raise exc

    return Service


def test_semantic_50_an_http_exception_is_its_own_answer(serve, caplog):
    answer = serve(raising(werkzeug.exceptions.Gone("it moved out"))).get("/")

    assert answer.status == 410
    assert "it moved out" in answer.text
    assert [record.levelname for record in caplog.records if "error handling" in record.message] == ["WARNING"]


def test_semantic_50_a_response_in_an_http_exception_is_sent_unchanged(serve):
    answer = serve(raising(werkzeug.exceptions.HTTPException(response=Response("made", 299)))).get("/")

    assert (answer.status, answer.text) == (299, "made")


@pytest.mark.parametrize("expected", [ValueError, (KeyError, ValueError), [ValueError]])
def test_semantic_50_expected_exceptions_are_the_clients_mistake(serve, expected):
    answer = serve(raising(ValueError("no such day"), expected_exceptions=expected)).get("/")

    assert (answer.status, answer.text) == (400, "Error: ValueError: no such day\n")


def test_semantic_50_a_bad_request_is_the_clients_mistake(serve):
    class Wrong(BadRequest):
        pass

    answer = serve(raising(Wrong("not like this"))).get("/")

    assert (answer.status, answer.text) == (400, "Error: Wrong: not like this\n")


@pytest.mark.parametrize("exc", [ValueError("the password is x"), gevent.Timeout(1), KeyError("x"), gevent.GreenletExit()])
def test_other_errors_reveal_nothing(serve, exc):
    answer = serve(raising(exc)).get("/")

    assert (answer.status, answer.text) == (500, "Error: Internal Server Error\n")


def test_semantic_50_wrong_arguments_are_reported_before_a_worker_starts(serve):
    made = []

    class Service:
        name = "service"

        def __init__(self):
            made.append(self)

        @http("GET", "/<word>")
        def get(self, request):
            return "never"

    answer = serve(Service).get("/x")

    assert answer.status == 400
    assert answer.text.startswith("Error: IncorrectSignature: ")
    assert made == []


def test_semantic_50_routes_that_do_not_exist(serve):
    web = serve(answering("x"))

    assert web.get("/nowhere").status == 404
    answer = web.ask("DELETE", "/")
    assert answer.status == 405
    assert sorted(answer.headers["Allow"].split(", ")) == ["GET", "HEAD"]


def test_a_directory_without_its_slash_is_redirected(serve):
    class Service:
        name = "service"

        @http("GET", "/things/")
        def get(self, request):
            return "things"

    answer = serve(Service).get("/things?q=1")

    assert answer.status == 308
    assert answer.headers["Location"].endswith("/things/?q=1")


# --- HEAD and OPTIONS ----------------------------------------------------------------------------------------------


def test_head_is_get_without_the_body(serve):
    connection = serve(answering("hello")).connect()

    answer = connection.ask("HEAD", "/")
    assert (answer.status, answer.headers["Content-Length"], answer.body) == (200, "5", b"")
    assert connection.ask("GET", "/").text == "hello"


def test_head_of_a_streamed_body_leaves_the_connection_in_order(serve):
    connection = serve(answering(lambda: iter(["a", "b"]))).connect()

    assert connection.ask("HEAD", "/").body == b""
    assert connection.ask("GET", "/").text == "ab"


def test_options_lists_the_allowed_methods(serve):
    answer = serve(answering("x")).ask("OPTIONS", "/")

    assert (answer.status, answer.headers["Allow"]) == (204, "GET, HEAD, OPTIONS")


def test_options_of_nothing_is_not_found(serve):
    assert serve(answering("x")).ask("OPTIONS", "/nowhere").status == 404


def test_a_service_may_answer_options_and_head_itself(serve):
    class Service(answering("x")):
        @http("OPTIONS,HEAD", "/")
        def options(self, request):
            return 200, {"X-Mine": request.method}, ""

    web = serve(Service)

    assert web.ask("OPTIONS", "/").headers["X-Mine"] == "OPTIONS"


# --- context data --------------------------------------------------------------------------------------------------


def test_a_subclass_may_read_context_data_from_headers_and_send_them_back(serve):
    class Server(WebServer):
        def context_data_from_headers(self, request):
            return {"user_id": request.headers.get("X-User")}

        def headers_from_context_data(self, worker_ctx):
            return {"X-Seen": worker_ctx.data["user_id"], "X-Call-Id": worker_ctx.call_id}

    class Handler(HttpRequestHandler):
        server = Server()

    class Service:
        name = "service"
        context = Context()

        @Handler.decorator("GET", "/")
        def get(self, request):
            return self.context.data["user_id"]

    answer = serve(Service).ask("GET", "/", headers={"X-User": "ada"})

    assert (answer.text, answer.headers["X-Seen"]) == ("ada", "ada")
    assert answer.headers["X-Call-Id"].startswith("service.get.")


def test_by_default_clients_cannot_set_context_data(serve):
    class Service:
        name = "service"
        context = Context()

        @http("GET", "/")
        def get(self, request):
            return dict(self.context.data)

    assert serve(Service).ask("GET", "/", headers={"X-User-Id": "root"}).json == {}


# --- hooks ---------------------------------------------------------------------------------------------------------


def test_every_step_of_the_entrypoint_can_be_changed(serve):
    from werkzeug.routing import Rule

    class Handler(HttpRequestHandler):
        def get_url_rule(self):
            return Rule("/v1" + self.url, methods=[self.method])

        def get_entrypoint_parameters(self, request):
            return (request.args["word"],), {}

        def handle_request(self, request):
            response = super().handle_request(request)
            response.headers["X-Handled"] = "yes"
            return response

        def response_from_result(self, result):
            return super().response_from_result({"result": result})

        def response_from_exception(self, exc):
            return Response(f"{type(exc).__name__}!", 499)

    class Service:
        name = "service"

        @Handler.decorator("GET", "/shout")
        def shout(self, word):
            return word.upper()

    web = serve(Service)
    good, bad = web.get("/v1/shout?word=hey"), web.get("/v1/shout")

    assert (good.json, good.headers["X-Handled"]) == ({"result": "HEY"}, "yes")
    assert (bad.status, bad.text) == (499, "BadRequestKeyError!")


def test_a_failing_hook_is_an_error_without_internal_details(serve, caplog):
    class Handler(HttpRequestHandler):
        def response_from_exception(self, exc):
            raise RuntimeError("the hook itself")

    class Service:
        name = "service"

        @Handler.decorator("GET", "/")
        def get(self, request):
            raise ValueError("x")

    assert serve(Service).get("/").text == "Error: Internal Server Error\n"
    assert "the hook itself" in caplog.text


def test_middleware_wraps_the_application(serve):
    class Server(WebServer):
        def get_wsgi_app(self):
            app = super().get_wsgi_app()

            def prefixed(environ, start_response):
                environ["PATH_INFO"] = environ["PATH_INFO"].removeprefix("/api")
                return app(environ, start_response)

            return prefixed

    class Handler(HttpRequestHandler):
        server = Server()

    class Service:
        name = "service"

        @Handler.decorator("GET", "/x")
        def get(self, request):
            return "x"

    assert serve(Service).get("/api/x").text == "x"


# --- streamed bodies -----------------------------------------------------------------------------------------------


class Session(Recorder):
    """A dependency that is open until it is torn down."""


def streaming(generator):
    class Service:
        name = "service"
        session = Session()

        @http("GET", "/")
        def get(self, request):
            return generator(self.session)

    return Service


def steps(web):
    (recorder,) = web.container.dependencies
    return [step[1] for step in recorder.calls]


def test_a_streamed_body_is_sent_as_it_comes_and_the_worker_lives_until_its_end(serve):
    more = Event()

    def generate(session):
        yield "first"
        more.wait()
        yield "last"

    web = serve(streaming(generate))
    connection = web.connect()
    connection.request("GET", "/")
    response = connection.getresponse()

    assert response.read1() == b"first"
    assert steps(web) == ["get", "setup"]
    more.set()
    assert response.read() == b"last"
    until(lambda: steps(web) == ["get", "setup", "result", "teardown"])


def test_a_generator_that_fails_before_its_first_piece_is_an_error_like_any_other(serve):
    def generate(session):
        raise ValueError("too early")
        yield

    assert serve(streaming(generate)).get("/").status == 500


def test_a_generator_that_fails_later_breaks_the_connection_off(serve, caplog):
    import http.client

    def generate(session):
        yield "first"
        raise ValueError("too late")

    web = serve(streaming(generate))
    with pytest.raises(http.client.IncompleteRead):
        web.get("/")

    (recorder,) = web.container.dependencies
    until(lambda: len(recorder.calls) == 4)
    assert recorder.calls[2] == ("recorder", "result", None, ValueError)
    assert "too late" in caplog.text


def test_a_client_that_disconnects_stops_the_generator_wherever_it_waits(serve):
    ended = []

    def generate(session):
        try:
            yield "first"
            Event().wait()
        finally:
            ended.append("closed")

    web = serve(streaming(generate))
    connection = web.connect()
    connection.request("GET", "/")
    response = connection.getresponse()
    assert response.read1() == b"first"
    response.close()
    connection.close()

    until(lambda: ended)
    until(lambda: steps(web) == ["get", "setup", "result", "teardown"])
    assert web.container.pool.running() == 0


def test_head_starts_no_generator(serve):
    def generate(session):
        raise AssertionError("nobody gets this")
        yield

    web = serve(streaming(generate))

    assert web.ask("HEAD", "/").status == 200
    (recorder,) = web.container.dependencies
    until(lambda: len(recorder.calls) == 4)
    assert recorder.calls[2][3] is None


def test_a_body_that_a_subclass_discards_is_stopped(serve):
    class Handler(HttpRequestHandler):
        def handle_request(self, request):
            super().handle_request(request)
            return Response("something else")

    class Service:
        name = "service"

        @Handler.decorator("GET", "/")
        def get(self, request):
            while True:
                yield "more"

    web = serve(Service)

    assert web.get("/").text == "something else"
    until(lambda: web.container.pool.running() == 0)


def test_killing_a_service_calls_no_dependency_for_a_body_in_progress(serve):
    def generate(session):
        yield "first"
        Event().wait()

    web = serve(streaming(generate))
    sock = web.raw(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    sock.recv(1)
    (recorder,) = web.container.dependencies

    web.container.kill()

    assert [step[1] for step in recorder.calls] == ["get", "setup"]


def test_a_slow_client_holds_the_generator_back(serve):
    produced = []

    def generate(session):
        for number in range(1000):
            produced.append(number)
            yield bytes(1024 * 1024)

    web = serve(streaming(generate))
    sock = web.raw(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    sock.recv(1)
    gevent.sleep(0.05)
    count = len(produced)
    gevent.sleep(0.05)

    assert count == len(produced) < 50
    sock.close()
    until(lambda: web.container.pool.running() == 0)


def test_a_file_is_streamed_and_closed(serve):
    class File(io.BytesIO):
        pass

    file = File(b"x" * 100_000)

    class Service:
        name = "service"

        @http("GET", "/")
        def get(self, request):
            from werkzeug.wsgi import wrap_file

            return Response(wrap_file(request.environ, file), direct_passthrough=True, headers={"Content-Length": "100000"})

    assert serve(Service).get("/").body == b"x" * 100_000
    until(lambda: file.closed)


def test_to_a_client_of_http_1_0_the_end_of_the_body_is_the_end_of_the_connection(serve):
    from tests.web.stage import read_all

    web = serve(answering(lambda: iter(["a", "b"])))
    data = read_all(web.raw(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"))

    assert data.endswith(b"\r\n\r\nab")


# --- declarations and the log --------------------------------------------------------------------------------------


@pytest.mark.parametrize("method, url", [("", "/"), ("GET,", "/"), (None, "/"), ("GET", None)])
def test_an_invalid_declaration_is_refused_at_once(method, url):
    with pytest.raises(ConfigurationError, match="is needed"):
        http(method, url)(lambda self, request: "")


def test_each_request_is_a_line_in_the_log(serve, caplog):
    caplog.set_level(logging.INFO, "zmqservices.web.access")
    web = serve(answering("hello"))
    web.get("/?q=1")

    (line,) = [record.getMessage() for record in caplog.records if record.name == "zmqservices.web.access"]
    assert line.startswith("127.0.0.1 'GET /?q=1 HTTP/1.1' 200 ")
    assert line.endswith("s")
