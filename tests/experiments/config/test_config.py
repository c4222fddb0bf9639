import pytest

from experiments.config import Config, Hooks, difference, from_json, load_config, override, to_json
from tests.helpers.places import CONFIGS


def test_override_parses_each_type():
    config = override(
        Config(),
        [
            "train.steps=7",
            "train.learning_rate=1e-3",
            "model.static=true",
            "model.maps=4,8",
            "train.max_grad_norm=none",
            "train.init_from=runs/a",
            "data.cache=x=y",
        ],
    )
    assert config.train.steps == 7
    assert config.train.learning_rate == 1e-3
    assert config.model.static is True
    assert config.model.maps == (4, 8)
    assert config.train.max_grad_norm is None
    assert config.train.init_from == "runs/a"
    assert config.data.cache == "x=y"


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("train.step=7", "'train.step' does not exist; did you mean 'steps'"),
        ("trian.steps=7", "did you mean 'train'"),
        ("train.steps.x=7", "'steps' has no fields"),
        ("train.steps=many", "'train.steps': expected int, got 'many'"),
        ("model.static=perhaps", "'model.static': expected bool, got 'perhaps'"),
        ("train=7", "expected train.<field>=value"),
        ("train.steps", "expected name=value"),
        ("zzz=1", "expected one of"),
    ],
)
def test_override_explains_what_is_wrong(assignment, message):
    with pytest.raises(ValueError, match=message):
        override(Config(), [assignment])


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("kws_*.py")), ids=lambda path: path.stem)
def test_to_json_and_back_for_every_config_file(path):
    config, hooks = load_config(str(path))
    assert from_json(to_json(config)) == config
    assert hooks == Hooks()


def test_from_json_of_a_run_that_knew_fewer_fields():
    values = to_json(Config())
    values["data"] = {"cache": "old", "min_seconds": 1.5, "balance": True}
    data = from_json(values).data
    assert (data.cache, data.min_seconds, data.balance) == ("old", 1.5, True)
    assert (data.words_per_item, data.speed_range, data.snr_range_db) == (1, (1.0, 1.0), None)


def test_load_config_refuses_what_is_not_a_config(tmp_path):
    with pytest.raises(ValueError, match="expected a Python file"):
        load_config(str(tmp_path / "none.py"))
    (tmp_path / "a.py").write_text("x = 1\n")
    with pytest.raises(ValueError, match=r"define get_config\(\)"):
        load_config(str(tmp_path / "a.py"))
    (tmp_path / "b.py").write_text("def get_config():\n    return 3\n")
    with pytest.raises(ValueError, match="return a Config, got int"):
        load_config(str(tmp_path / "b.py"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def get_config(:\n", r": SyntaxError: invalid syntax \(.*, line 1\)"),
        ("import nothing_here\n", ", line 1: ModuleNotFoundError: No module named 'nothing_here'"),
        (
            "\ndef get_config():\n    return 1 / 0\n",
            ", line 3: ZeroDivisionError: division by zero",
        ),
        ("def get_config():\n    return get_config()\n", ", line 2: RecursionError: "),
        ("raise SystemExit(0)\n", ", line 1: SystemExit: 0"),
        ("\0", ": SyntaxError: source code string cannot contain null bytes"),
    ],
)
def test_load_config_says_what_is_raised_in_a_file_and_where(tmp_path, text, said):
    (tmp_path / "a.py").write_text(text)
    with pytest.raises(ValueError, match=rf"^--config: .*a\.py{said}"):
        load_config(str(tmp_path / "a.py"))


def test_difference_names_the_fields_and_lets_the_cache_move():
    new = override(Config(), ["train.steps=7", "data.cache=elsewhere"])
    assert difference(Config(), new) == ["train.steps: 1000 → 7"]
