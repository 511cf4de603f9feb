"""The record of a training: one row per check, in memory, in a CSV file, and for TensorBoard where it is installed.

The CSV file is written whole from the rows, so that a run that goes on after a kill leaves no row twice.
"""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from surrogates.averages import Averages


@dataclass
class Journal:
    """Rows of one fit, of all its runs, and the averages of the weights of the last.

    run, step, seconds; loss, and floor, the Gaussian's Bayes floor of that loss; gain, held out, in nats per dimension;
    width, of the best average so far.

    >>> journal = Journal()
    >>> journal.add(run=0.0, step=10.0, loss=0.5)
    >>> journal.of_run(0)
    [{'run': 0.0, 'step': 10.0, 'loss': 0.5}]
    """

    path: Path | None = None
    rows: list[dict[str, float]] = field(default_factory=list)
    averages: Averages | None = None

    def add(self, **row: float) -> None:
        """Append a row, and write it to the logs at once."""
        self.rows.append(row)
        if self.path is not None:
            self._write(self.path)
            _to_tensorboard(self.path, row)

    def of_run(self, run: float) -> list[dict[str, float]]:
        """The rows of one run."""
        return [row for row in self.rows if row["run"] == run]

    def replace(self, run: float, rows: list[dict[str, float]]) -> None:
        """Put these rows in the place of a run's own."""
        self.rows = [*(row for row in self.rows if row["run"] != run), *rows]

    def _write(self, path: Path) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, list(self.rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        draft = path.with_name(f".{path.name}.draft")
        draft.write_text(text.getvalue())
        draft.replace(path)


def _to_tensorboard(path: Path, row: Mapping[str, float]) -> None:
    """The same row as an event in the folder <log>.tensorboard, where TensorBoard is installed."""
    try:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.event_file_writer import EventFileWriter
    except ImportError:
        return
    values = [Summary.Value(tag=name, simple_value=value) for name, value in row.items() if name not in ("run", "step")]
    writer = EventFileWriter(str(path.with_suffix(".tensorboard") / f"run{int(row['run'])}"))
    writer.add_event(Event(wall_time=time.time(), step=int(row["step"]), summary=Summary(value=values)))
    writer.close()
