"""What a user may choose about a cache of clips, and which words that means."""

import dataclasses
from pathlib import Path

from data_prep.speech import splits
from data_prep.speech.cache import FRONTEND, SILENCE, UNKNOWN
from data_prep.speech.index import Index, composed
from data_prep.speech.talk_words import MOST, TALK

WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of `prepare`; `words` empty: the ten words, or with a pattern all words found."""

    words: tuple[str, ...] = ()
    pattern: str | None = None
    choice: splits.Choice = dataclasses.field(default_factory=splits.Choice)
    strict: bool = False
    overwrite: bool = False
    jobs: int = 0  # decoding threads, 0: one per CPU
    max_hz: int = FRONTEND["fmax"]  # where the mel bands end
    negatives: tuple[str, ...] = ()  # the rest as in `find_negatives`
    negative_speaker: str | None = None
    negative_validation: float = splits.PERCENT
    heard: Path | None = None
    talk_words: int = MOST  # of a split, where the data have no unknown words


def wanted_words(index: Index, options: Options) -> tuple[str, ...]:
    """The words to detect, checked against those found."""
    everything = options.words == ("all",) or (not options.words and options.pattern is not None)
    words = index.words if everything else tuple(map(composed, options.words)) or WORDS
    if len(set(words)) < len(words) or {SILENCE, UNKNOWN} & set(words):
        raise ValueError(f"expected different words other than the two fixed ones, got {words}")
    if TALK in index.words:
        raise ValueError(f"expected no word {TALK} in {index.root}: pieces of talk are called that")
    absent = [word for word in words if word not in index.words]
    if absent:
        raise ValueError(
            f"expected --words out of those in {index.root} ({', '.join(index.words)}), "
            f"got {', '.join(absent)}"
        )
    return words
