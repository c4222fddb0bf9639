"""Read a data set of images once into a cache folder for training.

    python -m data_prep.prepare_images --out cache
    python -m data_prep.prepare_images --data cifar-10-python.tar.gz --out cache
    python -m data_prep.prepare_images --data photos --out cache --size 64

Without --data: the handwritten digits that come with scikit-learn. With it: CIFAR-10 and CIFAR-100
(the .tar.gz or its folder, pickled or binary), idx files (MNIST, Fashion-MNIST), a folder of images
per class, or images/ beside masks/ of their parts.
"""

import dataclasses
import importlib.metadata
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from data_prep.command import cli as command
from data_prep.command.atomic import check_new_folder
from data_prep.images.cache import VALIDATION_FRACTION, is_image_cache, write_image_cache
from data_prep.images.formats import FORMATS, SIZE, read_images
from data_prep.images.image_set import ImageSet, with_validation
from data_prep.speech.cache import SPLITS


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of `prepare_images`; None: the default of the format."""

    form: str = "auto"
    size: int | None = None
    labels: str | None = None
    validation: float = VALIDATION_FRACTION
    seed: int = 0
    overwrite: bool = False


def prepare_images(data: Path | None, out: Path, options: Options) -> dict[str, dict[str, int]]:
    """Read, split and write the cache `out`; return images (or pixels) per class and split.

    Prints one line per decision. Raises ValueError or OSError before anything is written.
    """
    _check_out(data, out, options.overwrite)
    found = read_images(data, options.form, options.size, options.labels)
    found = with_validation(found, options.validation, options.seed)
    count, *shape = found.images.shape
    print(f"{count} images {' × '.join(map(str, shape))} of {len(found.classes)} classes")
    print(f"read as {found.form}; split: {found.rule}")
    if found.kind == "segmentation":
        print("counted below: labelled pixels")
    return write_image_cache(out, found, _provenance(data, found, options))


def table(counts: dict[str, dict[str, int]]) -> str:
    """Images, or pixels, per class and split as aligned text."""
    rows = counts | {
        "total": {split: sum(row[split] for row in counts.values()) for split in SPLITS}
    }
    width = max(map(len, (*rows, "class")))
    lines = [f"{'class':{width}}" + "".join(f"{split:>12}" for split in SPLITS)]
    for name, row in rows.items():
        lines.append(f"{name:{width}}" + "".join(f"{row[split]:>12}" for split in SPLITS))
    return "\n".join(lines)


def _check_out(data: Path | None, out: Path, overwrite: bool) -> None:
    """Refuse to replace anything that is not a cache of images, and one unless asked to."""
    check_new_folder("out", out)
    if out.exists():
        empty = out.is_dir() and not any(out.iterdir())
        if not is_image_cache(out) and not empty:
            raise ValueError(
                f"expected --out to be new or a cache of images, got {out}, which is neither"
            )
        if not overwrite and not empty:
            raise ValueError(f"{out} holds a cache already: give --overwrite to replace it")
        if data is not None and out.resolve() in (data.resolve(), *data.resolve().parents):
            raise ValueError(f"expected --out outside of --data, got {out}")


def _provenance(data: Path | None, found: ImageSet, options: Options) -> dict[str, Any]:
    """Contents of provenance.json, but for counts and fingerprint."""
    return {
        "source": found.form if data is None else data.resolve().name,
        "form": found.form,
        "options": {
            "size": options.size,
            "labels": options.labels,
            "validation": options.validation,
            "seed": options.seed,
        },
        "split": found.rule,
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "pillow": importlib.metadata.version("pillow"),
            "scikit-learn": importlib.metadata.version("scikit-learn"),
        },
    }


def define_flags(values: flags.FlagValues) -> None:
    """Flags of the command."""
    flags.DEFINE_string(
        "data",
        None,
        "Folder or archive of images; none: scikit-learn's digits.",
        flag_values=values,
    )
    flags.DEFINE_string("out", None, "Cache folder to write.", required=True, flag_values=values)
    flags.DEFINE_enum(
        "format", "auto", FORMATS, "What --data is; auto: told by its files.", flag_values=values
    )
    flags.DEFINE_integer(
        "size",
        None,
        f"Pixels a side that images of folders are scaled to, by default {SIZE}.",
        lower_bound=1,
        flag_values=values,
    )
    flags.DEFINE_enum(
        "labels", None, ("fine", "coarse"), "Of CIFAR-100; by default fine.", flag_values=values
    )
    flags.DEFINE_float(
        "validation",
        VALIDATION_FRACTION,
        "Fraction of each class's training images to validate with, 0: none.",
        lower_bound=0.0,
        upper_bound=0.9,
        flag_values=values,
    )
    flags.DEFINE_integer("seed", 0, "Of that choice.", lower_bound=0, flag_values=values)
    flags.DEFINE_bool("overwrite", False, "Replace an existing cache.", flag_values=values)


def run(values: flags.FlagValues) -> None:
    """Body of the command."""
    options = Options(
        form=values.format,
        size=values.size,
        labels=values.labels,
        validation=values.validation,
        seed=values.seed,
        overwrite=values.overwrite,
    )
    data = Path(values.data) if values.data is not None else None
    counts = prepare_images(data, Path(values.out), options)
    print(table(counts))
    for split in SPLITS:
        if not any(row[split] for row in counts.values()):
            print(f"the {split} split is empty")
    print(f"wrote {values.out}")


def main(argv: Sequence[str]) -> int:
    """Run the command (program name first) and return its exit status."""
    return command.run(define_flags, run, __doc__ or "", argv)


def cli() -> None:
    """Entry point of the console script."""
    sys.exit(main(sys.argv))


if __name__ == "__main__":
    cli()
