"""Documents: what they name exists, what can be typed can be typed, and what can run runs."""

import ast
import contextlib
import importlib.util
import io
import re
import runpy
import shlex
import subprocess
import sys
from functools import cache
from itertools import pairwise

import pytest

from experiments.__main__ import commands
from experiments.config import Config, override
from tests.helpers import rooms
from tests.helpers.places import CONFIGS, ROOT

PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in (
        *(ROOT / name for name in ("README.md", "WORKSPACE.md", "CONTRIBUTING.md", "CHANGELOG.md")),
        *sorted((ROOT / "docs").glob("*.md")),
    )
}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
OF_A_RUN = {"config.py"}  # files of a run's folder


def blocks(page, language):
    """The blocks of a page that are in a language; "" where none is said."""
    return [body for name, body in FENCE.findall(PAGES[page]) if name == language]


def commands_of(text):
    """Every `python …` and `make …` of a shell block, as arguments; variables are filled in."""
    text = text.replace("\\\n", " ")
    for name, value in re.findall(r'^(\w+)="([^"]*)"', text, re.MULTILINE):
        text = text.replace(f"${name}", " ".join(value.split()))
    found = []
    for line in text.split("\n"):
        # A bar without a blank before it belongs to a regular expression.
        for part in re.split(r" \||[;&]| -- | (?=python -m)", line.partition(" #")[0]):
            part = part.removeprefix("--command=").strip()
            if re.match(r"(\S*python|make) ", part):
                found.append(shlex.split(part.replace('"', "") if part.count('"') % 2 else part))
    return found


def all_commands():
    """(page, arguments) of every command in blocks and in inline code."""
    for page in PAGES:
        for body in blocks(page, ""):
            yield from ((page, words) for words in commands_of(body))
        text = FENCE.sub("", PAGES[page])
        for inline in re.findall(r"`((?:python|make) [^`]+)`", text):
            yield from ((page, words) for words in commands_of(inline))


COMMANDS = [
    pytest.param(words, id=f"{page}:{' '.join(words)[:70]}") for page, words in all_commands()
]


@cache
def flags_of(module):
    """Names of a command's flags, by its --help."""
    file = ROOT / f"{module.replace('.', '/')}.py"
    assert file.is_file(), f"{module}: no such command"
    printed = io.StringIO()
    argv, sys.argv = sys.argv, [str(file), "--help"]
    try:
        with contextlib.redirect_stdout(printed), pytest.raises(SystemExit) as end:
            runpy.run_path(str(file), run_name="__main__")
    finally:
        sys.argv = argv
    assert end.value.code == 0
    return set(re.findall(r"^  --(?:\[no\])?(\w+)", printed.getvalue(), re.MULTILINE))


def test_there_is_something_to_check():
    assert len(COMMANDS) > 80
    assert "workdir" in flags_of("experiments.launch")
    assert "nonsense" not in flags_of("experiments.launch")


def test_commands_of_a_block_are_found():
    text = (
        'all="--config C\n    --data D"\nfor s in 0 1; do\n  python -m a.b $all --out x_$s \\\n'
        "      --set k=v  # 3 min\ndone\narecord -q | python -m a.c --stdin\nmake demo  # all\n"
    )
    assert commands_of(text) == [
        ["python", "-m", "a.b", "--config", "C", "--data", "D", "--out", "x_$s", "--set", "k=v"],
        ["python", "-m", "a.c", "--stdin"],
        ["make", "demo"],
    ]


@pytest.mark.parametrize("words", COMMANDS)
def test_a_command_and_its_flags_exist(words):
    if words[0] == "make":
        targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        assert words[1] in targets
    elif words[1] != "-m":
        assert (ROOT / words[1]).is_file()
    elif words[2] == "pytest":
        assert all((ROOT / word).exists() for word in words[3:])
    elif words[2] not in {"experiments", "tests.helpers.rooms", "experiments.benchmarks.NAME"}:
        known = flags_of(words[2])
        named = [word[2:].partition("=")[0] for word in words[3:] if word.startswith("--")]
        assert set(named) <= known
        fields = [re.sub(r"\$\w", "1", b) for a, b in pairwise(words) if a == "--set"]
        override(Config(), [field for field in fields if field not in {"a.b=v", "a.b=value"}])
        if "--config" in words and (path := words[words.index("--config") + 1]) != "C":
            assert (ROOT / path).is_file()


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)", PAGES[page]):
        if target.startswith("http"):
            continue
        path = (ROOT / page).parent.joinpath(target) if target else ROOT / page
        assert path.exists(), target
        if anchor:
            assert anchor in anchors(path.read_text(encoding="utf-8")), f"{target}#{anchor}"


def anchors(text):
    """What the headings of a page are called in links: lower case, blanks as -, no punctuation."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


@pytest.mark.parametrize("page", PAGES)
def test_files_and_modules_exist(page):
    text = FENCE.sub("", PAGES[page]) if page != "CHANGELOG.md" else ""
    for name in re.findall(r"`([\w./]+\.(?:py|md|sh|cff))`", text):
        assert (ROOT / name).is_file() or (CONFIGS / name).is_file() or name in OF_A_RUN, name
    for name in re.findall(r"`((?:sanas_jax|experiments|data_prep)/[\w/]*)`", text):
        assert (ROOT / name).is_dir(), name
    for name in re.findall(r"`(?:experiments\.)?benchmarks\.(\w+)[ `]", text):
        assert name == "NAME" or (ROOT / f"experiments/benchmarks/{name}.py").is_file(), name
    for name in re.findall(r"`((?:sanas_jax|data_prep|experiments)(?:\.\w+)+)`", text):
        assert exists(name), name


def exists(name):
    """Whether a dotted name is a module, or a name that is written down in one."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        path = ROOT.joinpath(*parts[:end])
        file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if file.is_file():
            rest = parts[end:]
            tree = ast.parse(file.read_text(encoding="utf-8"))
            return len(rest) == 0 or rest[0] in names_in(tree) or parts[:end] == ["sanas_jax"]
    return False


def names_in(tree):
    """Names that a module defines or hands on."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.ImportFrom):
            yield from (alias.name for alias in node.names)


PYTHON = [(page, body) for page in PAGES for body in blocks(page, "python")]


def run_python(body):
    exec(compile(body, "<document>", "exec"), {})


def test_python_of_the_readme_runs():
    (body,) = blocks("README.md", "python")
    assert len([line for line in body.split("\n") if line]) <= 16
    run_python(body)


@pytest.mark.slow
@pytest.mark.parametrize(("page", "body"), PYTHON, ids=[page for page, _ in PYTHON])
def test_python_of_documents_runs(page, body):
    run_python(body)


def test_readme_and_workspace_are_short():
    assert len(PAGES["README.md"].splitlines()) <= 120
    assert len(PAGES["WORKSPACE.md"].splitlines()) <= 150


def test_readme_names_the_words_of_the_shipped_models():
    about = (ROOT / "experiments/pretrained_models/kws/README.md").read_text("utf-8")
    words = re.search(r"knows silence, unknown, ([\w, ]+)", about)[1]
    assert words in PAGES["README.md"]


def test_workspace_shows_the_rooms_that_there_are():
    house = next(body for body in blocks("WORKSPACE.md", "") if "circles" in body)
    shown = {line.split()[1] for line in house.strip().split("\n")[:-1]}
    assert shown == set(rooms.room_graph()), "make rooms prints the new house"


def test_the_list_of_commands_has_all_and_says_what_each_does():
    listed = commands("data_prep") | commands("experiments")
    scripts = (ROOT / "setup.cfg").read_text("utf-8").partition("console_scripts")[2]
    assert set(listed) == set(re.findall(r"= ([\w.]+):cli", scripts))
    assert all(len(line) > 10 and "`" not in line for line in listed.values())


def test_the_list_of_commands_imports_no_jax():
    code = "import sys; import experiments.__main__ as m; m.main(); print('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip().endswith("False")
    assert "python -m experiments.listen" in done.stdout


@pytest.fixture
def checkout(tmp_path):
    """A folder from which commands can be typed as they stand; what they write goes there."""
    for name in ("sanas_jax", "data_prep", "experiments", "examples"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


def type_in(words, folder):
    """Run a command as it stands in a document; its output."""
    words = [sys.executable if word == "python" else word for word in words]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def block_with(page, text):
    """The commands of the first block of a page that has a text in it."""
    return commands_of(next(body for body in blocks(page, "") if text in body))


needs_voices = pytest.mark.skipif(
    importlib.util.find_spec("espeakng_loader") is None, reason="needs the extra synth"
)


@pytest.mark.slow
@needs_voices
def test_first_word_of_the_readme_is_heard_and_evaluated(checkout):
    *making, listening = block_with("README.md", "--wav words.wav")
    for words in making:
        type_in(words, checkout)
    assert '"word": ' in type_in(listening, checkout)
    (checkout / "words.wav").rename(checkout / "stream.wav")
    (checkout / "words_labels.txt").rename(checkout / "stream_labels.txt")
    (checkout / "words.json").rename(checkout / "stream.json")
    evaluating = block_with("docs/using.md", "evaluate --pretrained kws ")[0]
    assert "kws" in type_in([*evaluating, "--cost_weights=0.1"], checkout)


@pytest.mark.slow
@needs_voices
def test_own_words_of_the_readme_train(checkout):
    speak = "python -m data_prep.synthesize --out said --voices 20 --words lumos,nox --sentences 2"
    type_in(speak.split(), checkout)
    (checkout / "said" / "_speech_").rename(checkout / "talk")
    recordings = checkout / "recordings"
    recordings.mkdir()
    for path in sorted((checkout / "said").glob("[a-z]*/*.wav")):
        speaker, take = path.stem.split("_nohash_")
        path.rename(recordings / f"{path.parent.name}_{speaker}_{take}.wav")
    preparing, training, calibrating, listening = block_with("README.md", "own_words.py")
    type_in(preparing, checkout)
    short = "--set train.steps=2 --set train.eval_every=2 --set train.log_every=1"
    small = "--set train.batch_size=4 --set train.eval_batches=1 --set train.warmup_steps=1"
    type_in([*training, *short.split(), *small.split()], checkout)
    assert "without words: " in type_in(calibrating, checkout)
    import numpy as np
    import soundfile

    word, rate = soundfile.read(next(recordings.iterdir()))
    soundfile.write(checkout / "mine.wav", np.pad(word, rate), rate)  # a second to both sides
    type_in(listening, checkout)


@pytest.mark.slow
def test_export_of_the_documents_runs(checkout):
    pytest.importorskip("onnxruntime")
    exporting, running = block_with("docs/using.md", "onnx_listen.py")
    type_in(exporting, checkout)
    import numpy as np
    import soundfile

    noise = np.random.default_rng(0).normal(size=48000) * 0.01
    soundfile.write(checkout / "recording.wav", noise, 16000)
    type_in(running, checkout)


def test_citation_and_changelog_say_the_version():
    version = re.search(r"^version = (\S+)", (ROOT / "setup.cfg").read_text(), re.MULTILINE)[1]
    assert f"version: {version}" in (ROOT / "CITATION.cff").read_text("utf-8").split("\n")
    assert f"## {version}" in PAGES["CHANGELOG.md"].split("\n")


def test_pre_commit_runs_what_make_lint_runs():
    hooks = (ROOT / ".pre-commit-config.yaml").read_text("utf-8")
    assert "entry: make lint" in hooks
    assert set(re.findall(r"repo: (\S+)", hooks)) == {"local"}
