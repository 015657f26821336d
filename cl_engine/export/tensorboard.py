"""TensorBoard: an event file for each seed, with scores, tasks, memory and losses as scalars; at most 50 tasks."""

from __future__ import annotations

from pathlib import Path

from cl_engine.export import frames, scalars
from cl_engine.export.needed import needed
from cl_engine.results.run import Run


def export(run: Run, folder: Path) -> None:
    """Write ``seed-0/events.out.tfevents…``, … into a folder: ``tensorboard --logdir`` shows it.

    Scores are over the number of experiences learned, ``loss`` over epochs; what was run is the text ``run``. Times are
    those of the log: its beginning, and the seconds spent since.

    Raises:
        UsageError: if TensorBoard is not installed.
    """
    events = needed("tensorboard.compat.proto.event_pb2")
    summaries = needed("tensorboard.compat.proto.summary_pb2")
    tensors = needed("tensorboard.compat.proto.tensor_pb2")
    shapes = needed("tensorboard.compat.proto.tensor_shape_pb2")
    writers = needed("tensorboard.summary.writer.event_file_writer")
    start = scalars.began(run)
    for seed in run.results["seed"].values:
        writer = writers.EventFileWriter(str(folder / f"seed-{seed}"))

        def put(step: int, when: float, values: list[object], writer: object = writer) -> None:
            event = events.Event(wall_time=when, step=step, summary=summaries.Summary(value=values))
            writer.add_event(event)  # type: ignore[attr-defined]

        shape = shapes.TensorShapeProto(dim=[shapes.TensorShapeProto.Dim(size=1)])
        text = tensors.TensorProto(dtype=7, string_val=[_fenced(frames.about(run))], tensor_shape=shape)
        about = summaries.SummaryMetadata(plugin_data=summaries.SummaryMetadata.PluginData(plugin_name="text"))
        put(0, start, [summaries.Summary.Value(tag="run/text_summary", metadata=about, tensor=text)])
        spent = 0.0
        for step, numbers in scalars.over_experiences(run, int(seed)):
            spent += sum(value for name, value in numbers.items() if name.startswith("seconds/"))
            put(step, start + spent, [summaries.Summary.Value(tag=k, simple_value=v) for k, v in numbers.items()])
        for at, loss in enumerate(scalars.losses(run, int(seed))):
            put(at, start, [summaries.Summary.Value(tag="loss", simple_value=loss)])
        writer.close()


def _fenced(text: str) -> bytes:
    return ("    " + text.replace("\n", "\n    ")).encode()  # TensorBoard shows texts as Markdown; this is code
