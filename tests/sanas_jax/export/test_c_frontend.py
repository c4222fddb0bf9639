"""Features in C are those of `data.features.extract`, and ask for no sample beyond their frames."""

import subprocess

import numpy as np
import pytest

from sanas_jax.data.features import Frontend, extract
from sanas_jax.export.c.frontend import write_features
from sanas_jax.export.c.text import Source
from tests.helpers.compiled_c import skip_without_compiler
from tests.helpers.fuzz_c import NoSanitizersError, build_watched

skip_without_compiler()

BANDS = 5
MAIN = """
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "features.c"

/* A line for every number of frames: so many are made of samples that end where they do. */
int main(void)
{
    float frames[MOST * OUTPUTS];
    for (int count = 1; count <= MOST; ++count) {
        const size_t size = (size_t)((count - 1) * HOP + FRAME) * sizeof(float);
        float *samples = malloc(size);
        for (int i = 0; i < (count - 1) * HOP + FRAME; ++i)
            samples[i] = (float)((i * 7919 + count * 104729) % 2003) / 1001.5f - 1;
        features(samples, count, frames);
        for (int i = 0; i < count * OUTPUTS; ++i) printf("%.9g ", frames[i]);
        printf("\\n");
        free(samples);
    }
    return 0;
}
"""
MOST = 10


def samples(frontend, count):
    """Those of the program."""
    i = np.arange(frontend.span(count))
    return ((i * 7919 + count * 104729) % 2003 / np.float32(1001.5) - 1).astype(np.float32)


@pytest.mark.parametrize("lanes", [1, 3])
@pytest.mark.parametrize(
    ("n_fft", "hop", "cepstral"),
    [
        (60, 20, False),
        (60, 20, True),
        (64, 25, False),  # whose last column is a part of a hop
        (50, 50, False),  # of frames side by side
        (36, 7, True),
        (2, 1, False),
    ],
)
def test_features_are_those_of_jax(n_fft, hop, cepstral, lanes, tmp_path):
    outputs = 4 if cepstral else BANDS
    rng = np.random.default_rng(n_fft)
    frontend = Frontend.create(
        rng.uniform(0.1, 1, (BANDS, n_fft // 2 + 1)),
        n_fft=n_fft,
        hop=hop,
        sample_rate=2000,
        mean=rng.standard_normal(outputs),
        std=rng.uniform(1, 2, outputs),
        cepstral=cepstral,
    )
    source = Source()
    write_features(source, frontend)
    told = {"LANES": lanes, "MOST": MOST, "HOP": hop, "FRAME": n_fft, "OUTPUTS": outputs}
    try:
        files = {"features.c": source.text(), "main.c": MAIN}
        build_watched(tmp_path, files, *(f"-D{name}={value}" for name, value in told.items()))
    except NoSanitizersError:
        pytest.skip("no sanitizers here")
    done = subprocess.run(["./main"], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    for count, line in enumerate(done.stdout.splitlines(), 1):
        found = np.array(line.split(), np.float32).reshape(count, outputs)
        expected = extract(frontend, samples(frontend, count), centred=False)
        np.testing.assert_allclose(found, expected, atol=3e-5)
    assert count == MOST
