"""What `prepare` prints of a cache: tables of its clips and negatives, and what they lack."""

import numpy as np

from data_prep.speech import decode
from data_prep.speech.cache import SILENCE, SPLITS
from data_prep.speech.negative_cache import StoredNegatives
from data_prep.speech.stretches import LEAST_SECONDS


def table(counts: dict[str, dict[str, int]]) -> str:
    """Clips per class and split as aligned text."""
    width = max(map(len, counts))
    lines = [f"{'class':{width}}" + "".join(f"{split:>12}" for split in SPLITS)]
    for name, row in counts.items():
        cells = ["from noise"] * len(SPLITS) if name == SILENCE else [row[s] for s in SPLITS]
        lines.append(f"{name:{width}}" + "".join(f"{cell:>12}" for cell in cells))
    total = [sum(row[split] for row in counts.values()) for split in SPLITS]
    return "\n".join([*lines, f"{'total':{width}}" + "".join(f"{n:>12}" for n in total)])


def negative_table(negatives: StoredNegatives) -> str:
    """Files and minutes of negatives by kind and split as aligned text."""
    width = max(map(len, ("negatives", *negatives.all_kinds)))
    lines = [f"{'negatives':{width}}" + "".join(f"{split:>18}" for split in SPLITS)]
    for kind, row in negatives.table().items():
        cells = [f"{files} ({minutes:.1f} min)" for files, minutes in row.values()]
        lines.append(f"{kind:{width}}" + "".join(f"{cell:>18}" for cell in cells))
    heard = int(negatives.heard.sum())
    return "\n".join([*lines, *([f"a word was heard in {heard} of them"] if heard else [])])


def lacking(negatives: StoredNegatives) -> list[str]:
    """Lines that name the kinds of negatives of which a split has nothing to learn or choose on."""
    lines = []
    seconds = np.diff(negatives.bounds) / decode.SAMPLE_RATE
    for k, kind in enumerate(negatives.all_kinds):
        quiet = (negatives.kinds == k) & ~negatives.heard
        found = {
            split: seconds[quiet & (negatives.splits == s)].sum() for s, split in enumerate(SPLITS)
        }
        if absent := [split for split, own in found.items() if not own]:
            lines.append(
                f"no {kind} without words for {', '.join(absent)}: add files of it, or one longer "
                f"than {len(SPLITS) * LEAST_SECONDS} s"
            )
        if short := [split for split, own in found.items() if 0 < own < LEAST_SECONDS]:
            lines.append(
                f"less than {LEAST_SECONDS} s of {kind} without words for {', '.join(short)}: add "
                "files of it"
            )
    return lines
