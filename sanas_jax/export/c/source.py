"""A trained network as one C99 file that needs libm and nothing else.

    NAME_state s;                       /* all that a stream needs; no memory is allocated */
    NAME_init(&s, price);               /* λ, which a network hears that is told its price */
    while (read(samples))               /* NAME_SAMPLES of them, 16 bit */
        if (NAME_step(&s, samples, &r) && r.word >= NAME_FIRST_WORD)
            puts(NAME_words[r.word]);

It is the step of `streaming`, written from the net's layers and edges: an edge that is off computes
nothing, rows of the stream are kept in rings on one tape, an edge that was off catches up, and
features, controller and detector are inside. The most probable architecture is run.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from string import Template
from typing import Any

from sanas_jax.blocks.audio import LogMel
from sanas_jax.data.clips import FIRST_WORD
from sanas_jax.data.features import Frontend
from sanas_jax.export.c.controller import write_advance, write_plan
from sanas_jax.export.c.frontend import write_features
from sanas_jax.export.c.layout import layout_of
from sanas_jax.export.c.stream import DECLARATIONS, DETECTOR, STEP, STREAM
from sanas_jax.export.c.text import Source, constant
from sanas_jax.export.c.walk import Walk, live_lines
from sanas_jax.export.program import samples_of
from sanas_jax.rollout import Sanas
from sanas_jax.streaming import most_turns
from sanas_jax.streaming.detector import Detector
from sanas_jax.streaming.rings import rings


def c_source(
    name: str,
    model: Sanas,
    params: dict[str, Any],
    frontend: Frontend,
    classes: Sequence[str],
    detector: Detector,
    *,
    static: bool,
    weights: str = "float32",
) -> str:
    """The file.

    Args:
      name: that its public names begin with, a C identifier.
      model, params: as trained.
      frontend: of its features.
      classes: K words.
      detector: settings; the threshold may be changed in the state, that where people talk not.
      static: every edge is on, whatever the controller says.
      weights: "float32", or "int8": whole numbers with a scale for each output, a quarter of the
        size; what is computed is float32.

    Raises ValueError for a network or a controller without a form in C, by name.
    """
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ValueError(f"name: expected an identifier of C, got {name!r}")
    last = max(detector.silence_label, detector.unknown_label)
    if last >= len(classes):
        raise ValueError(f"detector: expected labels of {len(classes)} classes, got label {last}")
    net, source, samples = model.net, Source(weights), samples_of(model, frontend)
    values = _values(name, model, frontend, classes, detector)
    _check_bands(model, frontend)
    source.add(Template(DECLARATIONS).substitute(values))
    words = ", ".join(_quoted(word) for word in classes)
    source.add(f"const char *const {name}_words[{len(classes)}] = {{{words}}};")
    hear = f"memcpy(rows, samples, (size_t)(count * {frontend.hop}) * sizeof *rows)"
    if not frontend.raw:
        write_features(source, frontend)
        hear = "features(samples, count, rows)"
    body = Walk(source, model, params)
    lines = body.body()
    write_plan(source, model, params)
    write_advance(source, model, params)
    source.add(constant("most", most_turns(model).tolist(), "short"))
    step = values | {
        "hear": hear,
        "live": live_lines(model, static),
        "body": lines,
        "features": body.value(net.features),
        "logits": body.value(net.output),
        "begin_steps": math.ceil((model.window - model.hop) / model.hop),
        "begin_frames": model.window - model.hop,
        "hop": model.hop,
        "advance": samples.step_advance,
        "frame_hop": frontend.hop,
        "steps": rings(model)[net.input].steps,
    }
    source.add(Template(STEP).substitute(step))
    source.add(Template(DETECTOR).substitute(values))
    source.add(Template(STREAM).substitute(step))
    return source.text()


def _check_bands(model: Sanas, frontend: Frontend) -> None:
    """C has one function `features`: of the front end, or of an edge that makes bands itself."""
    makers = [] if frontend.raw else ["the front end"]
    makers += [repr(edge.name) for edge in model.net.edges if isinstance(edge.block, LogMel)]
    if len(makers) > 1:
        raise ValueError(
            f"edge {makers[1]}: expected mel bands from one place in C, got them from {makers[0]} "
            "too"
        )


def _values(
    name: str, model: Sanas, frontend: Frontend, classes: Sequence[str], detector: Detector
) -> dict[str, Any]:
    """What the parts of the file that are the same for all networks are told."""
    layout, hop, samples = layout_of(model), model.hop, samples_of(model, frontend)
    spare = -(model.window - hop) % hop * frontend.hop
    half, reflects = frontend.n_fft // 2, frontend.padding == "reflect"
    # A reflection at the end takes half a frame, of samples that may have been heard already.
    kept = max(half + 1 - (samples.step - samples.step_advance), 0) if reflects else 0
    # What waits when audio comes: nearly a step, or, before the first, zeros and, if these wait for
    # a reflection, half a frame. Rows of samples make a step of less audio than that.
    waits = max(samples.step, spare + 2 * half)
    hop_ms = 1000 * samples.step_advance / frontend.sample_rate
    return {
        "NAME": name.upper(),
        "name": name,
        "classes": len(classes),
        "edges": len(model.net.edges),
        "tape": layout.tape,
        "vector": layout.state,
        "price": layout.z if layout.conditioned else -1,
        "rate": frontend.sample_rate,
        "samples": samples.step_advance,
        "needed": samples.step,
        "audio": kept + waits + samples.step_advance + half,
        "kept": kept,
        "spare": spare,
        "half": half,
        "reflects": int(reflects),
        "results": int(detector.window_ms / hop_ms) + 2,
        "hop_ms": float(hop_ms),
        "window_ms": float(detector.window_ms),
        "threshold": float(detector.threshold),
        "own": ", ".join(str(float(own)) for own in (*detector.thresholds, 0)),
        "own_count": len(detector.thresholds),
        "first_word": FIRST_WORD,
        "suppression_ms": float(detector.suppression_ms),
        "min_count": detector.min_count,
        "silence": detector.silence_label,
        "talk_threshold": float(detector.talk_threshold),
        "talk_share": float(detector.talk_share),
        "talk_ms": float(detector.talk_ms),
        "unknown": detector.unknown_label,
    }


def _quoted(word: str) -> str:
    """A string of C, byte by byte where it is not plain."""
    plain = "".join(
        chr(b) if 32 <= b < 127 and chr(b) not in '"\\?' else f"\\{b:03o}" for b in word.encode()
    )
    return f'"{plain}"'
