"""Scores of a detector on a labelled stream, and of predictions on labelled steps.

`score_stream` counts as TensorFlow's streaming test, with which the SANAS paper's table was made;
it runs on the host. The others are jnp functions on steps [...], most often [T, B].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, nan

from sanas_jax.streaming.detector import Detection

RULES = ("set", "list")


@dataclass(frozen=True)
class StreamScore:
    """Counts over a stream; percentages are over its words, nan where it has none.

    num_words: ground-truth words
    matched: words matched by a detection (rule "set"), or detections that matched one ("list")
    correct, wrong: detections near a word, with its label and the first to match it, or otherwise
    false_alarms: detections near no word
    """

    num_words: int
    matched: int
    correct: int
    wrong: int
    false_alarms: int

    @property
    def match_pct(self) -> float:
        """Matched words, %; over 100 is possible with the rule "list"."""
        return self._percent(self.matched)

    @property
    def correct_pct(self) -> float:
        """Correct detections, % of the words."""
        return self._percent(self.correct)

    @property
    def wrong_pct(self) -> float:
        """Wrong detections, % of the words."""
        return self._percent(self.wrong)

    @property
    def false_alarm_pct(self) -> float:
        """False alarms, % of the words."""
        return self._percent(self.false_alarms)

    def false_alarms_per_hour(self, seconds: float) -> float:
        """False alarms per hour of a stream that lasts `seconds`."""
        if not 0 < seconds < inf:
            raise ValueError(f"seconds: expected a positive number, got {seconds}")
        return self.false_alarms * 3600 / seconds

    def _percent(self, count: int) -> float:
        """`count` in % of the words."""
        return 100 * count / self.num_words if self.num_words else nan


def score_stream(
    detections: Sequence[Detection],
    truth_words: Sequence[int],
    truth_times_ms: Sequence[float],
    *,
    tolerance_ms: float = 750,
    rule: str = "set",
    up_to_ms: float | None = None,
) -> StreamScore:
    """Compare detections with the words of a stream and the times where these start.

    Each detection takes the first word within `tolerance_ms` of it, both ends included: correct if
    the label agrees and no detection took that word before, else wrong; a false alarm if there is
    none. A word that was taken stays in the way of its neighbours, as in the original.

    rule: "set" counts a word that was matched twice once (TensorFlow's C++ tool), "list" twice (its
    Python tool).
    up_to_ms: leaves out words later than this + tolerance_ms, but no detection (as the original).
    """
    if len(truth_words) != len(truth_times_ms):
        raise ValueError(
            f"expected as many words as times, got {len(truth_words)} and {len(truth_times_ms)}"
        )
    if rule not in RULES:
        raise ValueError(f"rule: expected one of {RULES}, got {rule!r}")
    if not tolerance_ms >= 0:
        raise ValueError(f"tolerance_ms: expected 0 or more, got {tolerance_ms}")
    end = inf if up_to_ms is None else up_to_ms + tolerance_ms
    pairs = zip(truth_times_ms, truth_words, strict=True)
    truth = sorted(((float(t), int(w)) for t, w in pairs if t <= end), key=lambda pair: pair[0])
    taken: list[int] = []
    correct = false_alarms = first = 0
    for found in sorted(detections, key=lambda detection: detection.time_ms):
        while first < len(truth) and truth[first][0] < found.time_ms - tolerance_ms:
            first += 1
        if first == len(truth) or truth[first][0] > found.time_ms + tolerance_ms:
            false_alarms += 1
            continue
        # Words are taken in order, so that one taken before can only be the last.
        fresh = not taken or taken[-1] != first
        correct += fresh and truth[first][1] == found.label
        taken.append(first)
    return StreamScore(
        num_words=len(truth),
        matched=len(set(taken)) if rule == "set" else len(taken),
        correct=correct,
        wrong=len(taken) - correct,
        false_alarms=false_alarms,
    )
