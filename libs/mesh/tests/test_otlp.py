"""Spans reach a collector, when one is named."""

from concurrent import futures

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from argosy.mesh.telemetry import span, start_telemetry


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """A real OTLP receiver that keeps span names by service."""

    def __init__(self) -> None:
        self.names: dict[str, list[str]] = {}

    def Export(self, request, context):  # noqa: N802
        for resource in request.resource_spans:
            attributes = {a.key: a.value.string_value for a in resource.resource.attributes}
            found = self.names.setdefault(attributes["service.name"], [])
            found += [s.name for scope in resource.scope_spans for s in scope.spans]
        return trace_service_pb2.ExportTraceServiceResponse()


def test_with_a_collector_spans_go_there_and_not_into_files(tmp_path) -> None:
    collector, server = Collector(), grpc.server(futures.ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    telemetry = start_telemetry(
        "router", "router-0", traces_dir=tmp_path, otlp_endpoint=f"http://127.0.0.1:{port}"
    )
    with span(telemetry.tracer, "router.generate"), span(telemetry.tracer, "router.place"):
        pass
    telemetry.close()
    server.stop(None)
    assert sorted(collector.names["router"]) == ["router.generate", "router.place"]
    assert not list(tmp_path.iterdir())
