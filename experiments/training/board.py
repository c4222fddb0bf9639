"""Scalars for TensorBoard, written as they come.

Not by tensorboardX's SummaryWriter: it writes in a thread, which a full disk ends with a traceback,
and whoever goes on would then wait for it for ever.
"""

from __future__ import annotations

import time
from pathlib import Path

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar

FLUSH_SECONDS = 10.0


class Board:
    """A file of events in a folder."""

    def __init__(self, folder: Path, first_step: int) -> None:
        """Begin a file; of others in the folder TensorBoard hides what is of `first_step` or later.

        Raises OSError, as all below, where it cannot be written.
        """
        self._events, self._due = EventsWriter(str(folder / "events")), 0.0
        self._add(Event(step=first_step, file_version="brain.Event:2"))
        self._add(Event(step=first_step, session_log=SessionLog(status=SessionLog.START)))

    def add(self, tag: str, value: float, step: int) -> None:
        """A number."""
        self._add(Event(step=step, summary=scalar(tag, value)))
        if time.monotonic() > self._due:  # each time, the disk is waited for
            self._events.flush()
            self._due = time.monotonic() + FLUSH_SECONDS

    def close(self) -> None:
        """No more is to come."""
        self._events.close()

    def _add(self, event: Event) -> None:
        event.wall_time = time.time()
        self._events.write_event(event)
