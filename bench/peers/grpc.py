"""gRPC with protobuf messages: grpc.aio on both sides, and the threaded API on both sides.

The messages are described here rather than generated, so that nothing has to be compiled; what runs is the same.
"""

from __future__ import annotations

from typing import Any

from bench.subject import Subject

#: Bytes of a message; the default is 4 MiB.
OPTIONS = [("grpc.max_receive_message_length", 64 * 2**20), ("grpc.max_send_message_length", 64 * 2**20)]
ADD, ECHO = "/bench.Bench/Add", "/bench.Bench/Echo"


class Grpc(Subject):
    """grpc.aio."""

    name = "grpc"
    about = "gRPC, grpc.aio"
    requirements = ("grpcio", "protobuf")
    modules = ("grpc.aio", "google.protobuf.message_factory")
    style = "asyncio"

    def serve(self, address: str) -> None:
        import asyncio

        asyncio.run(self._serve(address))

    async def _serve(self, address: str) -> None:
        import grpc

        messages = make_messages()

        async def add(request: Any, context: Any) -> Any:
            return messages["Sum"](value=request.a + request.b)

        async def echo(request: Any, context: Any) -> Any:
            return messages["Blob"](data=request.data)

        server = grpc.aio.server(options=OPTIONS)
        server.add_generic_rpc_handlers((handlers(messages, add, echo),))
        server.add_insecure_port(address)
        await server.start()
        await server.wait_for_termination()

    async def connect(self, address: str) -> AioConnection:
        import grpc

        return AioConnection(*stubs(grpc.aio.insecure_channel(address, options=OPTIONS)))


class GrpcThreads(Subject):
    """The API without asyncio: a pool of threads serves, a thread for each call in flight calls."""

    name = "grpc-threads"
    about = "gRPC, threads"
    requirements = ("grpcio", "protobuf")
    modules = ("grpc", "google.protobuf.message_factory")
    style = "threads"

    def serve(self, address: str) -> None:
        from concurrent.futures import ThreadPoolExecutor

        import grpc

        messages = make_messages()

        def add(request: Any, context: Any) -> Any:
            return messages["Sum"](value=request.a + request.b)

        def echo(request: Any, context: Any) -> Any:
            return messages["Blob"](data=request.data)

        server = grpc.server(ThreadPoolExecutor(10), options=OPTIONS)
        server.add_generic_rpc_handlers((handlers(messages, add, echo),))
        server.add_insecure_port(address)
        server.start()
        server.wait_for_termination()

    def connect(self, address: str) -> Connection:
        import grpc

        return Connection(*stubs(grpc.insecure_channel(address, options=OPTIONS)))


def make_messages() -> dict[str, Any]:
    """The message classes that a compiled bench.proto would have."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    kind = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="bench.proto", package="bench", syntax="proto3")
    for name, fields in {
        "Numbers": [("a", kind.TYPE_INT64), ("b", kind.TYPE_INT64)],
        "Sum": [("value", kind.TYPE_INT64)],
        "Blob": [("data", kind.TYPE_BYTES)],
    }.items():
        message = file.message_type.add(name=name)
        for number, (field, type_) in enumerate(fields, 1):
            message.field.add(name=field, number=number, type=type_, label=kind.LABEL_OPTIONAL)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    names = ("Numbers", "Sum", "Blob")
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"bench.{name}")) for name in names}


def handlers(messages: dict[str, Any], add: Any, echo: Any) -> Any:
    """What generated code would register."""
    import grpc

    def unary(function: Any, takes: str, gives: str) -> Any:
        return grpc.unary_unary_rpc_method_handler(
            function, request_deserializer=messages[takes].FromString, response_serializer=messages[gives].SerializeToString
        )

    table = {"Add": unary(add, "Numbers", "Sum"), "Echo": unary(echo, "Blob", "Blob")}
    return grpc.method_handlers_generic_handler("bench.Bench", table)


def stubs(channel: Any) -> tuple[Any, Any, dict[str, Any]]:
    """The two methods of a channel, and the messages."""
    messages = make_messages()

    def unary(path: str, takes: str, gives: str) -> Any:
        return channel.unary_unary(
            path, request_serializer=messages[takes].SerializeToString, response_deserializer=messages[gives].FromString
        )

    return unary(ADD, "Numbers", "Sum"), unary(ECHO, "Blob", "Blob"), messages


class Connection:
    """A stub, blocking."""

    def __init__(self, add: Any, echo: Any, messages: dict[str, Any]) -> None:
        self._add, self._echo, self._numbers, self._blob = add, echo, messages["Numbers"], messages["Blob"]

    def add(self, a: int, b: int) -> Any:
        return self._add(self._numbers(a=a, b=b)).value

    def echo(self, blob: bytes) -> Any:
        return self._echo(self._blob(data=blob)).data


class AioConnection(Connection):
    """A stub of coroutines."""

    async def add(self, a: int, b: int) -> Any:
        return (await self._add(self._numbers(a=a, b=b))).value

    async def echo(self, blob: bytes) -> Any:
        return (await self._echo(self._blob(data=blob))).data
