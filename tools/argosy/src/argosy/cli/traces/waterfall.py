"""A trace as a waterfall for the terminal."""

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from argosy.cli.traces.spans import SpanLine, Trace

BAR_WIDTH_MAX = 48
BAR_WIDTH_MIN = 16
COLUMNS_BESIDE_BAR = 52
COLUMNS_FOR_NOTES = 140
COLOURS = ("cyan", "green", "yellow", "magenta", "blue", "red")
SHOWN = ("prompt_tokens", "cached_tokens", "transferred_bytes", "decode", "prefill", "why")


def waterfall(trace: Trace, columns: int) -> RenderableType:
    """Spans under their parents, each with its bar on one time line.

    columns: of the terminal; notes are left out where there is no room for them.
    """
    width = min(BAR_WIDTH_MAX, max(BAR_WIDTH_MIN, columns - COLUMNS_BESIDE_BAR))
    start_ns = min(span.start_ns for span in trace.spans)
    end_ns = max(span.end_ns or span.start_ns for span in trace.spans)
    total_ns = max(1, end_ns - start_ns)
    colours = dict(zip(trace.services, COLOURS * len(trace.services), strict=False))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("span", "service"):
        table.add_column(title, no_wrap=True)
    table.add_column("ms", justify="right", no_wrap=True)
    table.add_column(f"0 … {total_ns / 1e6:.0f} ms", no_wrap=True, min_width=width)
    if columns >= COLUMNS_FOR_NOTES:
        table.add_column("")
    for depth, span in walk(trace):
        label = Text("  " * depth + span.name, style="red" if span.status == "ERROR" else "")
        colour = colours[span.service]
        bar = bar_of(span, start_ns, total_ns, width, colour)
        cells: list[RenderableType] = [
            label,
            Text(span.service, colour),
            ms(span),
            bar,
            notes(span),
        ]
        table.add_row(*cells[: len(table.columns)])
    summary = Text(
        f"trace {trace.trace_id}: {len(trace.spans)} spans, {len(trace.services)} services, "
        f"{len(trace.orphans)} orphans, {len(trace.lost)} cut short"
    )
    return Group(summary, table)


def walk(trace: Trace) -> Iterator[tuple[int, SpanLine]]:
    """(depth, span), parents first; orphans as roots of their own."""

    def below(span: SpanLine, depth: int) -> Iterator[tuple[int, SpanLine]]:
        yield depth, span
        for child in trace.children(span):
            yield from below(child, depth + 1)

    for root in [*trace.roots, *trace.orphans]:
        yield from below(root, 0)


def bar_of(span: SpanLine, start_ns: int, total_ns: int, width: int, colour: str) -> Text:
    """The span's place on the time line; a span cut short ends in a cross."""
    end_ns = span.end_ns or span.start_ns
    first = int((span.start_ns - start_ns) / total_ns * (width - 1))
    length = max(1, round((end_ns - span.start_ns) / total_ns * width))
    mark = "█" * min(length, width - first) if span.end_ns else "✗"
    return Text(" " * first + mark, colour if span.end_ns else "red")


def ms(span: SpanLine) -> str:
    """Its duration."""
    return f"{(span.end_ns - span.start_ns) / 1e6:.1f}" if span.end_ns else "cut short"


def notes(span: SpanLine) -> Text:
    """Attributes worth seeing, and the error."""
    found = [f"{name}={span.attributes[name]}" for name in SHOWN if name in span.attributes]
    return Text(" ".join([*found, span.error or ""]).strip(), "dim")
