"""Where things lie."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "experiments" / "configs"
GOLDEN = ROOT / "tests" / "golden"
