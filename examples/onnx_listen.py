"""Words in a recording, by onnxruntime alone: `python onnx_listen.py EXPORT recording.wav`."""

import json
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime
import soundfile


def listen(folder: Path, recording: str) -> None:
    """Print the words of a recording as they are heard."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    about = json.loads((folder / "description.json").read_text(encoding="utf-8"))
    detector = about["detector"]
    begin, step = (
        onnxruntime.InferenceSession(folder / "onnx" / f"{name}.onnx", options)
        for name in ("begin", "step")
    )
    memory = dict(np.load(folder / "onnx" / "memory.npz"))
    audio, rate = read(recording)
    if rate != about["sample_rate"] or len(audio) < about["begin_samples"]:
        sys.exit(
            f"{recording}: expected a window or more at {about['sample_rate']} Hz, got "
            f"{len(audio)} samples at {rate} Hz"
        )

    audio = np.pad(audio, about["pad_samples"], mode=about["padding"])
    given = {"samples": audio[: about["begin_samples"]], "frames": memory["frames"]}
    (memory["frames"],) = begin.run(None, given)
    names = [output.name for output in step.get_outputs()]
    results: list[tuple[int, np.ndarray]] = []
    fired, fired_ms, words, seconds = detector["silence_label"], -np.inf, 0, []
    talk, other = 0.0, detector["unknown_label"]
    no_words = (detector["silence_label"], other)
    starts = range(
        about["begin_advance"], len(audio) - about["step_samples"] + 1, about["step_advance"]
    )
    for t, at in enumerate(starts):
        started = time.perf_counter()
        samples = audio[at : at + about["step_samples"]]
        answer = dict(zip(names, step.run(names, {**memory, "samples": samples}), strict=True))
        memory = {name: answer[f"next_{name}"] for name in memory}
        seconds.append(time.perf_counter() - started)

        # Means of the last posteriors; a label fires that is new, over its threshold, not too soon.
        # Where people talk, more is asked of a word.
        ms = round(1000 * t * about["step_advance"] / rate)
        talking = talk > detector["talk_share"]
        if results:
            fresh = 1 - np.exp((results[-1][0] - ms) / detector["talk_ms"])
            talk += fresh * (answer["posterior"][other] - talk)
        results = [(then, p) for then, p in results if then >= ms - detector["window_ms"]]
        results.append((ms, answer["posterior"]))
        mean = np.mean([p for _, p in results], axis=0, dtype=float)
        label, spans = int(mean.argmax()), ms - results[0][0] >= detector["window_ms"] / 4
        waited = fired == detector["silence_label"] or ms - fired_ms > detector["suppression_ms"]
        enough = len(results) >= detector["min_count"] and spans and waited
        own = detector["thresholds"]
        threshold = own[label] if label < len(own) else detector["threshold"]
        if talking and label not in no_words:
            threshold = max(threshold, detector["talk_threshold"])
        if enough and mean[label] > threshold and label != fired:
            fired, fired_ms = label, ms
            if label >= about["first_word"]:
                words += 1
                word = about["classes"][label]
                print(f"{ms / 1000:8.1f} s  {word}  {mean[label]:.4f}", flush=True)
    mean_ms = 1000 * np.mean(seconds or [0.0])
    print(f"{words} words in {len(audio) / rate:.1f} s; {mean_ms:.2f} ms per step", file=sys.stderr)


def read(recording: str) -> tuple[np.ndarray, int]:
    """Mono samples [n] and their rate; ends where they are none."""
    try:
        audio, rate = soundfile.read(recording, dtype="float32", always_2d=True)
    except (RuntimeError, TypeError, ValueError, OSError, MemoryError) as error:
        sys.exit(f"{recording}: expected audio, got {error}")
    if not np.isfinite(audio).all():
        at = np.flatnonzero(~np.isfinite(audio).all(1))[0] / rate
        sys.exit(f"{recording}: expected numbers, got NaN or infinity at {at:.3f} s")
    return audio.mean(1), rate


if __name__ == "__main__":
    try:
        listen(Path(sys.argv[1]), sys.argv[2])
    except Exception as error:  # damaged files fail in any way, some of them at the first step
        said = " ".join(str(error).split())[:200] or type(error).__name__
        sys.exit(f"{sys.argv[1]}: expected an export with --format onnx, got {said}")
