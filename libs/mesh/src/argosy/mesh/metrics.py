"""Metrics: numbers that are read when somebody looks, so that keeping them costs nothing.

They go to the OTLP collector if one is named, and to scrapers of `metrics_listen`
(Prometheus). With neither, nothing reads them. Attributes must be few and bounded.
"""

from collections.abc import Callable, Iterable, Mapping

from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource

from argosy.domain.errors import ArgosyError, Reason

Read = Callable[[], Iterable[tuple[float, Mapping[str, str]]]]
"""Gives values now, each with its attributes. Called on a thread of its own."""


class Metrics:
    """A process's metrics. `listen`: host:port of Prometheus' page; empty: none."""

    def __init__(self, service: str, instance: str, *, otlp_endpoint: str, listen: str) -> None:
        readers: list[MetricReader] = []
        if otlp_endpoint:
            from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter

            exporter = OTLPMetricExporter(endpoint=otlp_endpoint)
            readers.append(PeriodicExportingMetricReader(exporter))
        if listen:
            readers.append(scraped_at(listen))
        resource = Resource.create({"service.name": service, "service.instance.id": instance})
        self._provider = MeterProvider(readers, resource)
        self._meter = self._provider.get_meter("argosy")

    def gauge(self, name: str, unit: str, description: str, read: Read) -> None:
        """A value that goes up and down."""
        self._meter.create_observable_gauge(name, [observing(read)], unit, description)

    def counter(self, name: str, unit: str, description: str, read: Read) -> None:
        """A value that only grows while the process lives."""
        self._meter.create_observable_counter(name, [observing(read)], unit, description)

    def close(self) -> None:
        """Export what there is, and stop."""
        self._provider.shutdown()


def observing(read: Read) -> Callable[[CallbackOptions], Iterable[Observation]]:
    """As OpenTelemetry wants to be answered."""
    return lambda _: [Observation(value, dict(attributes)) for value, attributes in read()]


def scraped_at(listen: str) -> MetricReader:
    """A page for Prometheus. Raises ArgosyError when the port is taken."""
    from opentelemetry.exporter.prometheus import PrometheusMetricReader
    from prometheus_client import start_http_server

    host, _, port = listen.rpartition(":")
    reader = PrometheusMetricReader()
    try:
        start_http_server(int(port), host)
    except OSError as error:
        raise ArgosyError(
            Reason.NOT_READY, f"cannot listen on {listen} for metrics: {error}"
        ) from error
    return reader
