"""Search at random and by evolution: `python -m experiments.compare_search --workdir W --gates G`.

Finds sub-networks of a trained super-network under budgets of its cost by random search and by
regularised evolution, and sets them beside those that learnt gates found (BSN): runs that began
from the super-network (train.init_from). The searches may spend what the gates' architecture
costs, and score as many architectures as each other, on the validation split with the shared
weights. All that was found is tested, trained on alike (--finetune_steps) and tested again.

On streams of speech (--choose_on, --stream) the searches look for the best sub-network that stays
the same at every frame, for what an adaptive network spends: what lies between is what adapting
buys.

Kept in --out: search.jsonl with every architecture that was scored, comparison.json, .png. The
same command resumes.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from data_prep.command.cli import run, word_list
from data_prep.command.interrupts import leave
from experiments.config.wording import parse_budget
from experiments.flags.trust import define_trust_flag
from experiments.machine.jax_setup import keep_programs

if TYPE_CHECKING:
    from experiments.runs.trained import TrainedModel
    from experiments.search.comparison import Options


def define_flags(values: flags.FlagValues) -> None:
    """The command's flags."""
    flags.DEFINE_multi_string(
        "workdir",
        [],
        "Super-network: a run, or a sweep of several seeds; may be repeated.",
        flag_values=values,
    )
    flags.DEFINE_multi_string(
        "gates",
        [],
        "Run or sweep that learnt gates, begun from a --workdir; may be repeated.",
        flag_values=values,
    )
    flags.DEFINE_string("out", "runs/search", "Folder of the results.", flag_values=values)
    flags.DEFINE_list(
        "budgets",
        [],
        "Units of the super-network's cost or shares of the whole, e.g. 800k or 25%, where no "
        "--gates set them; on streams beside them.",
        flag_values=values,
    )
    flags.DEFINE_list("seeds", ["0"], "Seeds of the searches.", flag_values=values)
    flags.DEFINE_integer(
        "evaluations", 100, "Architectures that each search scores.", flag_values=values
    )
    flags.DEFINE_integer("population", 20, "Of evolution: how many live.", flag_values=values)
    flags.DEFINE_integer("tournament", 5, "How many compete to be a parent.", flag_values=values)
    flags.DEFINE_integer("at_once", 8, "Architectures in one program.", flag_values=values)
    flags.DEFINE_integer(
        "finetune_steps",
        0,
        "Steps of the same training for all that was found.",
        lower_bound=0,
        flag_values=values,
    )
    flags.DEFINE_multi_string(
        "choose_on",
        [],
        "WAV of a validation stream, to search and to calibrate detectors on; may be repeated.",
        flag_values=values,
    )
    flags.DEFINE_multi_string(
        "stream", [], "WAV of a stream to tell of; may be repeated.", flag_values=values
    )
    flags.DEFINE_list(
        "cost_weights",
        [],
        "Prices λ told to an adaptive network, e.g. 0.03,0.3; nine of its range if not given.",
        flag_values=values,
    )
    flags.DEFINE_string("data", None, "Cache of images, if it has moved.", flag_values=values)
    define_trust_flag(values)


def main(values: flags.FlagValues) -> None:
    """Search, or go on searching; print the tables and draw the figure."""
    from experiments.runs import folder as run_folder
    from experiments.runs.trained import read_model
    from experiments.search.comparison import Options
    from experiments.search.methods import Search

    keep_programs()
    options = Options(
        out=Path(values.out),
        search=Search(values.evaluations, values.population, values.tournament, values.at_once),
        seeds=[parse_seed(word) for word in word_list(values.seeds)],
        budgets=[parse_budget(word) for word in word_list(values.budgets)],
        finetune_steps=values.finetune_steps,
        data=values.data,
        trust=values.trust,
    )
    models, gates = (
        [
            read_model(folder, trust=values.trust)
            for folder in run_folder.expand_sweeps(map(Path, folders))
        ]
        for folders in (values.workdir, values.gates)
    )
    if not models:
        raise ValueError("--workdir: expected a super-network, got none")
    if len({model.workdir.name for model in models}) < len(models):
        raise ValueError("--workdir: expected folders of different names, got one twice")
    if all(model.info.input_shape for model in (*models, *gates)):
        _main_images(values, models, gates, options)
    else:
        _main_streams(values, models, gates, options)


def _main_images(
    values: flags.FlagValues,
    models: list[TrainedModel],
    gates: list[TrainedModel],
    options: Options,
) -> None:
    """Architectures for images: gates that learnt, random search, evolution."""
    from data_prep.command.atomic import new_files, write_json
    from experiments.figures.search import search_figure
    from experiments.figures.style import to_png
    from experiments.search.comparison import compare_images
    from experiments.search.summary import found_table, hypervolume_table, panels

    for flag in ("choose_on", "stream", "cost_weights"):
        if values[flag].value:
            raise ValueError(f"--{flag}: expected runs on audio, got images: {models[0].workdir}")
    found = compare_images(models, gates, options)
    print(found_table(found))
    print(hypervolume_table(found))
    write_json(options.out / "comparison.json", [one._asdict() for one in found])
    with new_files(options.out / "comparison.png") as (new,):
        new.write_bytes(to_png(search_figure(panels(found))))


def _main_streams(
    values: flags.FlagValues,
    models: list[TrainedModel],
    adaptive: list[TrainedModel],
    options: Options,
) -> None:
    """Adaptive networks on streams beside the best that stays the same."""
    from data_prep.command.atomic import new_files, write_json
    from experiments.evaluation.calibration import check_split
    from experiments.evaluation.stream_inference import read_streams
    from experiments.figures.search import search_figure
    from experiments.figures.style import to_png
    from experiments.flags.many_models import at_prices, parse_price
    from experiments.search.adapting import compare_streams, heard_panels, heard_table

    both = [*models, *adaptive]
    if any(model.info.input_shape for model in both):
        raise ValueError("--workdir, --gates: expected runs on audio or runs on images, got both")
    if not adaptive:
        raise ValueError("--gates: expected an adaptive network, to set the budgets on streams")
    if not values.choose_on or not values.stream:
        raise ValueError("--choose_on, --stream: expected the WAV of a stream for each, got none")
    if options.finetune_steps:
        raise ValueError("--finetune_steps: expected none on streams; weights stay as they are")
    for wav in values.choose_on:
        check_split(Path(wav), "choose_on")
    streams = read_streams([*values.choose_on, *values.stream], [], both)
    number = len(values.choose_on)
    prices = [parse_price(word) for word in word_list(values.cost_weights)]
    told = [at_prices(model, prices) for model in adaptive]
    found = compare_streams(models, told, streams[:number], streams[number:], options)
    print(heard_table(found))
    write_json(options.out / "comparison.json", [one._asdict() for one in found])
    with new_files(options.out / "comparison.png") as (new,):
        new.write_bytes(to_png(search_figure(heard_panels(found))))


def parse_seed(word: str) -> int:
    """A seed, 0 or more."""
    if not word.isdecimal():
        raise ValueError(f"--seeds: expected numbers of 0 or more, got {word!r}")
    return int(word)


def cli() -> None:
    """Console entry point."""
    after = "the same command goes on from what was scored"
    leave(run(define_flags, main, __doc__, sys.argv, after))


if __name__ == "__main__":
    cli()
