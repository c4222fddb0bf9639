"""Score models on clips: `python -m experiments.evaluate_clips --workdir W --data cache`.

Each clip of a split is one decision. A static network hears the clip's own second. A network with a
controller hears a stream of five steps, silence around the clip, and answers with the window that
is aligned with it, the third: the state has seen what it would have seen on a stream. Cost is that
of this window.

Beside the accuracy over all clips stands that of the 12-class benchmark, with fewer unknown words.
With --snr_db the clips are asked again with background noise, which a network with a controller
hears before and after them too.
The result is kept in workdir/evaluations/clips.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

from absl import flags

from data_prep.command.atomic import check_place, write_json
from data_prep.command.cli import number, run, word_list
from data_prep.command.interrupts import leave
from data_prep.speech.cache import SPLITS, open_cache
from data_prep.speech.talk_words import recorded
from experiments.flags.many_models import define_model_flags, read_models
from experiments.machine.jax_setup import keep_programs


def define_flags(values: flags.FlagValues) -> None:
    """The command's flags."""
    define_model_flags(values)
    flags.DEFINE_string(
        "data", None, "Cache folder from data_prep.prepare.", required=True, flag_values=values
    )
    flags.DEFINE_enum("split", "testing", SPLITS, "Split of the clips.", flag_values=values)
    flags.DEFINE_bool(
        "by_speaker", False, "Also the accuracy for each speaker.", flag_values=values
    )
    flags.DEFINE_bool(
        "by_sound",
        False,
        "Also the accuracy by loudness and by where the word is in its clip.",
        flag_values=values,
    )
    flags.DEFINE_list(
        "snr_db",
        [],
        "Also with the cache's background noise under the clips and around them, at these ratios "
        "in dB of a clip's mean power to it, e.g. 20,10,5,0.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "groups",
        None,
        "Table (file, tab, group): also the accuracy for each group of clips.",
        flag_values=values,
    )


def main(values: flags.FlagValues) -> None:
    """Ask every model about every clip; print the figures and write them."""
    from experiments.datasets.clips import Noise, read_clips
    from experiments.evaluation.clip_errors import (
        accuracy_by,
        error_lines,
        levels,
        places,
        read_groups,
    )
    from experiments.evaluation.clips import (
        ask,
        by_speaker,
        check_classes,
        clip_summary,
        make_answer,
        score_answers,
    )
    from experiments.evaluation.scoring import requested_macs
    from experiments.runs.stored_results import check_kept, write_results

    check_place("json", values.json, [values.groups])
    keep_programs()
    ratios = dict.fromkeys(parse_ratio(word) for word in word_list(values.snr_db))
    models, budgets = read_models(values)
    check_kept(model.workdir for model in models)
    cache = open_cache(values.data)
    tracks = cache.noise_tracks()
    if ratios and not any(track.any() for track in tracks):
        raise ValueError(f"--snr_db: expected a cache with background noise, got {cache.path}")
    for model in models:
        check_classes(model, cache)
    if values.by_speaker and cache.speakers is None:
        raise ValueError(
            f"--by_speaker: expected a cache that knows its speakers, got {cache.path} of an older "
            "version; prepare it again"
        )
    clips = read_clips(cache, values.split)
    rows = recorded(cache, values.split)
    parts: dict[str, list[str]] = {}
    if values.by_sound:
        # Of the clips alone, which stand before the segments of noise.
        parts["level"] = levels(clips.samples[: len(rows)])
        parts["place"] = places(clips.samples[: len(rows)], cache.lengths[rows])
    if values.groups is not None:
        if not cache.names:
            raise ValueError(
                f"--groups: expected a cache that knows its files, got {cache.path} of an older "
                "version; prepare it again"
            )
        parts["group"] = read_groups(Path(values.groups), [cache.names[row] for row in rows])
    results = []
    heard = [None, *(Noise(tracks, ratio) for ratio in ratios)]
    for model in models:
        answer = make_answer(model)
        for price, noise in itertools.product(model.prices, heard):
            own_price = price if model.conditioned else None
            answers = ask(model, answer, price, clips.samples, noise)
            result = {
                "workdir": model.name,
                "step": model.step,
                "static": model.info.config.model.static,
                "cost_weight": own_price,
                "budget": requested_macs(model, own_price, budgets),
                "data": cache.path.resolve().name,
                "split": values.split,
                "snr_db": noise and noise.snr_db,
            } | score_answers(model, clips, answers)
            right = answers.predictions == clips.labels
            if values.by_speaker:
                result["accuracy_pct_by_speaker"] = by_speaker(clips, right, cache.all_speakers)
            errors = {name: accuracy_by(part, right[: len(rows)]) for name, part in parts.items()}
            if errors:
                result["errors"] = errors
            save(model.workdir, result)
            results.append(result)
            print("\n".join([clip_summary(result), *error_lines(errors)]))
    if values.json:
        write_results(Path(values.json), results)


def parse_ratio(word: str) -> float:
    """dB, of a word of --snr_db; the range is that of `data.snr_range_db`."""
    ratio = number(word)
    if not -200 <= ratio <= 200:
        raise ValueError(f"--snr_db: expected numbers from -200 to 200, got {word!r}")
    return ratio


def save(folder: Path, result: dict[str, Any]) -> None:
    """Keep a run's result in its folder; a packed model's folder is only read."""
    from experiments.runs.packed import is_packed
    from experiments.runs.stored_results import at_price

    if is_packed(folder):
        return
    name = f"{result['data']}_{result['split']}"
    if result["snr_db"] is not None:
        name += f"_{result['snr_db']:g}dB"
    name = at_price(name, result["cost_weight"])
    write_json(folder / "evaluations" / "clips" / f"{name}.json", result)


def cli() -> None:
    """Console entry point."""
    leave(run(define_flags, main, __doc__, sys.argv))


if __name__ == "__main__":
    cli()
