"""Flags that say which speakers and takes go to which split."""

from absl import flags

from data_prep.command.cli import word_list
from data_prep.speech.index import composed
from data_prep.speech.splits import Choice, parse_takes


def define_split_flags(values: flags.FlagValues) -> None:
    """Flags that make a `Choice`."""
    for split in ("validation", "testing"):
        flags.DEFINE_list(f"{split}_speakers", [], f"Speakers for {split}.", flag_values=values)
        flags.DEFINE_string(
            f"{split}_takes", "", f"Numbers of takes for {split}, such as 0-4.", flag_values=values
        )


def choice_of(values: flags.FlagValues) -> Choice:
    """The `Choice` of the flags."""
    return Choice(
        validation_speakers=tuple(map(composed, word_list(values.validation_speakers))),
        testing_speakers=tuple(map(composed, word_list(values.testing_speakers))),
        validation_takes=parse_takes(values.validation_takes),
        testing_takes=parse_takes(values.testing_takes),
    )
