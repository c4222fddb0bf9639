"""Write a trained model to be run elsewhere:
`python -m experiments.export --pretrained N --out FOLDER`.

Writes the step of a stream, which skips what is off and runs the most probable architecture:

    description.json    what to know about it, below
    jax/                begin.bin, step.bin: `jax.export`, one StableHLO program for all of
                        --platforms; examples/jax_listen.py runs it with jax and numpy alone
    onnx/               begin.onnx, step.onnx: edges that may be off are `If` nodes
                        (`sanas_jax.export`); needs the extra `onnx`;
                        examples/onnx_listen.py runs it
    c/NAME.c            one C99 file, no library but libm: the stream, with features and detector;
                        its head says how it is compiled and called (`sanas_jax.export.c`);
                        --weights int8 needs less than a third of the flash;
                        examples/listen.c runs it, examples/cortex_m4 on a microcontroller
    */memory.npz        but of C: the arrays that one step hands to the next, before the first

The first two take audio in parts. Pad a recording with `pad_samples` on both sides (`padding`: as
NumPy names it), give `begin` the first `begin_samples`, then every `step` its `step_samples`: the
first step begins `begin_advance` samples after the beginning, each other one `step_advance` after
the one before.
Step t answers with its posterior [K] over `classes` (words from `first_word` on), the edges that
ran [E] and their probabilities [E]; its window begins `step_advance` · t samples into the
recording.

`edges` are in that order: `macs` of a whole window, and `fresh_macs` of the rows of one step; an
edge that has missed n steps computes min(macs, n · fresh_macs). `controller_macs` come on top.
`detector` is the calibrated one (`sanas_jax/streaming/detector.py`): `thresholds` are those of the
first labels, `threshold` of the others, `talk_threshold` of words where people talk. A conditioned
network was told `cost_weight`; where its log lies in the memory of a format is `log_price`: {array,
index in the flat array}. It may be changed between any two steps.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from data_prep.command.atomic import check_new_folder, new_folder
from data_prep.command.cli import run, word_list
from data_prep.command.interrupts import leave
from experiments.flags.one_model import chosen_model, chosen_price, define_model_flags
from experiments.machine.jax_setup import keep_programs
from sanas_jax.export.c.text import WEIGHTS

if TYPE_CHECKING:
    from experiments.runs.trained import TrainedModel
    from sanas_jax.export.program import Arrays
    from sanas_jax.streaming.detector import Detector

FORMATS = ("jax", "onnx", "c")
PLATFORMS = ("cpu", "cuda", "tpu")

# Fills a folder with a model that is told a price; what description.json says of it.
Writer = Callable[[Path, "TrainedModel", float | None], dict[str, Any]]


def define_flags(values: flags.FlagValues) -> None:
    """The command's flags."""
    define_model_flags(values)
    flags.DEFINE_string("out", None, "Folder to make.", required=True, flag_values=values)
    flags.DEFINE_list("format", ["jax"], f"Any of {', '.join(FORMATS)}.", flag_values=values)
    flags.DEFINE_list(
        "platforms", list(PLATFORMS), "What the program for jax runs on.", flag_values=values
    )
    flags.DEFINE_string(
        "weights",
        "float32",
        "What C keeps weights as: float32, or int8 in a quarter of the space.",
        flag_values=values,
    )


def main(values: flags.FlagValues) -> None:
    """Export a model; print what came out."""
    from experiments.runs.detectors import chosen_detector

    keep_programs()
    formats = _chosen("format", values.format, FORMATS)
    platforms = _chosen("platforms", values.platforms, PLATFORMS)
    weights = _chosen_weights(values.weights, formats)
    out = Path(values.out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        found = "another export" if (out / "description.json").is_file() else "something else"
        raise ValueError(f"--out: expected a new folder, got {found}: {out}")
    check_new_folder("out", out)
    writers: dict[str, Writer] = {"jax": partial(write_jax, platforms=platforms)}
    if "onnx" in formats:
        writers["onnx"] = _onnx_writer()
    model = chosen_model(values)
    price = chosen_price(values, model)
    detector = chosen_detector(model, price, values.threshold)
    writers["c"] = partial(write_c, detector=detector, weights=weights)
    description = describe(model, price, detector) | {"formats": {}}
    with new_folder(out) as folder:
        for name in formats:
            (folder / name).mkdir()
            description["formats"][name] = writers[name](folder / name, model, price)
        text = json.dumps(description, indent=1, ensure_ascii=False)
        (folder / "description.json").write_text(text + "\n", encoding="utf-8")
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    told = "" if price is None else f", told λ = {price:g}"
    print(f"wrote {out}: {model.workdir.name}, step {model.step}{told}; {size:,} bytes")


def describe(model: TrainedModel, price: float | None, detector: Detector) -> dict[str, Any]:
    """What a consumer needs to know (module docstring)."""
    from experiments.config.model import macs_per_step
    from sanas_jax.costs.incremental import fresh_macs
    from sanas_jax.data.clips import FIRST_WORD
    from sanas_jax.export.program import samples_of

    info, net = model.info, model.sanas.net
    frontend, samples = info.frontend, samples_of(model.sanas, model.info.frontend)
    macs, controller = macs_per_step(model.sanas, info.config.model.static)
    fresh = fresh_macs(net, model.sanas.hop)
    return {
        "model": model.workdir.name,
        "step": model.step,
        "classes": list(info.classes),
        "first_word": FIRST_WORD,
        "sample_rate": frontend.sample_rate,
        "padding": frontend.padding,
        "pad_samples": frontend.n_fft // 2,
        "begin_samples": samples.begin,
        "begin_advance": samples.begin_advance,
        "step_samples": samples.step,
        "step_advance": samples.step_advance,
        "cost_weight": price,
        "detector": asdict(detector),
        "controller_macs": controller,
        "edges": [
            {
                "name": edge.name,
                "source": edge.source,
                "target": edge.target,
                "gated": edge.gated,
                "macs": macs[edge.name],
                "fresh_macs": fresh[edge.name],
            }
            for edge in net.edges
        ],
    }


def write_jax(
    folder: Path, model: TrainedModel, price: float | None, *, platforms: Sequence[str] = PLATFORMS
) -> dict[str, Any]:
    """Write begin.bin, step.bin and memory.npz; what description.json says of them."""
    import jax
    import numpy as np
    from jax import export

    from sanas_jax.export.program import (
        difference,
        functions,
        initial,
        samples_of,
        shape_like,
        shapes,
    )

    stream, frontend, static = (
        model.sanas,
        model.info.frontend,
        model.info.config.model.static,
    )
    begin, step = functions(stream, model.params, frontend, static)
    memory, samples = initial(stream, price), samples_of(model.sanas, model.info.frontend)
    for name, function, count in (("begin", begin, samples.begin), ("step", step, samples.step)):
        like = [
            {key: shape_like(array) for key, array in memory.items()},
            shape_like(np.zeros(count)),
        ]
        exported = export.export(jax.jit(function), platforms=platforms)(*like)
        (folder / f"{name}.bin").write_bytes(exported.serialize())
    np.savez_compressed(folder / "memory.npz", **memory)
    conditioned = price is not None
    place = difference(initial(stream, 1.0), initial(stream, math.e)) if conditioned else None
    return {
        "platforms": list(platforms),
        "jax": jax.__version__,
        "memory": shapes(memory),
        "log_price": place,
    }


def write_c(
    folder: Path,
    model: TrainedModel,
    price: float | None,
    *,
    detector: Detector,
    weights: str = "float32",
) -> dict[str, Any]:
    """Write NAME.c; what description.json says of it. The price is told to NAME_init."""
    from experiments.live.native import source_of

    del price
    name = re.sub(r"\W", "_", f"m_{model.workdir.name}", flags=re.ASCII)
    name = name.removeprefix("m_") if re.match(r"m_[A-Za-z]", name) else name
    source = source_of(model, detector, name, weights)
    (folder / f"{name}.c").write_text(source, encoding="ascii")
    return {"file": f"{name}.c", "name": name, "weights": weights}


def _onnx_writer() -> Writer:
    """`write_jax` for ONNX; ValueError without the extra."""
    import numpy as np

    from sanas_jax.export.program import samples_of, shapes

    try:
        from sanas_jax.export import onnx_graph, onnx_memory, onnx_scope
    except ImportError as error:
        raise ValueError(
            "--format: onnx needs the package onnx: pip install 'sanas-jax[onnx]'"
        ) from error

    def write(folder: Path, model: TrainedModel, price: float | None) -> dict[str, Any]:
        stream, frontend, samples = (
            model.sanas,
            model.info.frontend,
            samples_of(model.sanas, model.info.frontend),
        )
        static = model.info.config.model.static
        step = onnx_graph.step_model(stream, model.params, frontend, samples.step, static=static)
        begin = onnx_graph.begin_model(stream, frontend, samples.begin)
        memory: Arrays = onnx_memory.initial_memory(stream, price)
        (folder / "begin.onnx").write_bytes(begin.SerializeToString())
        (folder / "step.onnx").write_bytes(step.SerializeToString())
        np.savez_compressed(folder / "memory.npz", **memory)
        place = None if price is None else {"array": "log_price", "index": 0}
        return {"opset": onnx_scope.OPSET, "memory": shapes(memory), "log_price": place}

    return write


def _chosen(flag: str, words: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    """Words of a flag, each of them known."""
    found = tuple(dict.fromkeys(word_list(words)))
    wrong = [word for word in found if word not in known]
    if wrong or not found:
        raise ValueError(
            f"--{flag}: expected any of {', '.join(known)}, got {', '.join(wrong) or 'none'}"
        )
    return found


def _chosen_weights(word: str, formats: Sequence[str]) -> str:
    """What weights are kept as; ValueError for formats that keep them as float32."""
    if word not in WEIGHTS:
        raise ValueError(f"--weights: expected one of {', '.join(WEIGHTS)}, got {word}")
    others = [name for name in formats if name != "c"]
    if word != "float32" and others:
        raise ValueError(f"--weights: expected float32 for {', '.join(others)}, got {word}")
    return word


def cli() -> None:
    """Console entry point."""
    leave(run(define_flags, main, __doc__, sys.argv))


if __name__ == "__main__":
    cli()
