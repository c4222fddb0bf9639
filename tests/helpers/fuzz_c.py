"""C files of small networks, compiled to watch themselves, that are given random chunks of audio.

    python -m tests.helpers.fuzz_c --chunks 100000

For each network, of some with several hops, with two paddings: chunks of any length, from silence
to the loudest, streams that end anywhere, states that are saved and come back, prices that change.
A fault of memory or an overflow (AddressSanitizer, UndefinedBehaviorSanitizer) ends it with status
1.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from experiments.machine.compiler import FLAGS, find_compiler
from tests.helpers.nets_in_c import NETS, front_of, model_of, source_of

PADDINGS = ("constant", "reflect")
# Networks and hops. Of 53 rows 13 and 26 leave one over: zeros before the first window and half a
# frame are then more than a step of samples takes.
CASES = (*((net, 10) for net in NETS), ("gated", 13), ("gated", 26))
MAIN = """
#include "small.c"
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    static small_state s, saved;
    static small_result r;
    static int16_t x[SMALL_SAMPLES];
    long left = argc == 2 ? atol(argv[1]) : 0, decisions = 0;
    srand(1);
    small_init(&saved, 1);
    while (left > 0) {
        int held = 0;
        small_init(&s, 0.01f + rand() % 1000 / 100.0f);
        for (int chunks = rand() % 60; chunks > 0 && left > 0; --chunks, --left) {
            const int size = rand() % (rand() % 4 ? 2 * SMALL_SAMPLES : 8);
            const int loud = 1 << rand() % 17;
            for (int j = 0; j < size; ++j) {
                x[held++] = (int16_t)(rand() % loud - loud / 2);
                if (held < SMALL_SAMPLES) continue;
                decisions += small_step(&s, x, &r);
                held = 0;
            }
            if (rand() % 7 == 0) saved = s;
            if (rand() % 11 == 0) s = saved;
            if (rand() % 5 == 0) small_tell(&s.memory, 0.01f + rand() % 100);
        }
        if (rand() % 3 == 0) held = SMALL_SAMPLES - 1; /* the most that may be left */
        while (small_finish(&s, x, held, &r)) held = 0, ++decisions;
        if (rand() % 2) small_init(&saved, 1);
    }
    printf("%ld\\n", decisions);
    return 0;
}
"""


class NoSanitizersError(Exception):
    """The compiler cannot watch what it compiles."""


def watched(folder: Path, source: str, chunks: int) -> subprocess.CompletedProcess[str]:
    """Compile the file and give it so many chunks; it prints how often it decided."""
    build_watched(folder, {"small.c": source, "main.c": MAIN})
    return subprocess.run(["./main", str(chunks)], cwd=folder, capture_output=True, text=True)


def build_watched(folder: Path, files: dict[str, str], *more: str) -> None:
    """Compile `main.c` of these files to `main`, with `more` arguments.

    Raises NoSanitizersError where the compiler cannot watch, ValueError where it finds a fault.
    """
    for name, text in files.items():
        (folder / name).write_text(text, encoding="ascii")
    flags = [flag for flag in FLAGS if not flag.startswith(("-O", "-funroll"))]
    call = [*find_compiler(), *flags, "-O1", "-g", "-Wall", "-Wextra", "-Werror"]
    call += ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "main.c", "-o", "main"]
    built = subprocess.run([*call, *more, "-lm"], cwd=folder, capture_output=True, text=True)
    if built.returncode and "cannot find" in built.stderr:
        raise NoSanitizersError(built.stderr)
    if built.returncode:
        raise ValueError(built.stderr)


def small_source(net: str, hop: int, padding: str, weights: str = "float32") -> str:
    """The C file of one of the networks."""
    model, params = model_of(NETS[net](), hop=hop)
    return source_of(model, params, front_of(model.net, padding), weights=weights)


def main() -> int:
    """The command; status 1 at a fault."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chunks", type=int, default=100_000)
    asked = parser.parse_args()
    for net, hop in CASES:
        for padding in PADDINGS:
            with tempfile.TemporaryDirectory() as folder:
                done = watched(Path(folder), small_source(net, hop, padding), asked.chunks)
            print(
                f"{net}, hop {hop}, {padding}: {asked.chunks} chunks, "
                f"{done.stdout.strip()} decisions, "
                f"{'nothing found' if done.returncode == 0 else done.stderr[-3000:]}",
                flush=True,
            )
            if done.returncode:
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
