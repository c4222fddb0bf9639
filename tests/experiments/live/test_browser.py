"""The live page in headless Chromium, with the model of the package: drop a WAV, see its words."""

import base64
import json
import os
import re
import shutil
import signal
import subprocess
import sys

import pytest

from data_prep import make_stream
from data_prep.synthesize import synthesize
from data_prep.voices.recordings import Options
from experiments.flags.one_model import DEFAULT_MODEL
from experiments.runs.trained import read_model
from sanas_jax.data.clips import FIRST_WORD

api = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
]
ENVIRONMENT = os.environ | {"PYTHONUNBUFFERED": "1"}
# Both as many pixels wide as a screen or a phone is.
DESKTOP, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
DROP = """([bytes, name, type]) => {
    const transfer = new DataTransfer();
    const data = Uint8Array.from(atob(bytes), (letter) => letter.charCodeAt(0));
    transfer.items.add(new File([data], name, { type }));
    document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true }));
}"""


@pytest.fixture(scope="module")
def wav(tmp_path_factory):
    """24 seconds of words by synthetic voices."""
    pytest.importorskip("espeakng_loader")
    folder = tmp_path_factory.mktemp("browser")
    words = read_model(DEFAULT_MODEL).info.classes[FIRST_WORD:]
    synthesize(folder / "corpus", Options(words=words, voices=6, takes=1, noise_seconds=5))
    path = folder / "words.wav"
    argv = ["make_stream", "--data", folder / "corpus", "--out", path, "--split", "training"]
    argv += ["--minutes", "0.4", "--word_gap_ms", "1000", f"--words={','.join(words)}"]
    assert make_stream.main([str(word) for word in argv]) == 0
    return path


@pytest.fixture(scope="module")
def heard(wav):
    """(time, word) of what `listen` hears in it."""
    command = [sys.executable, "-m", "experiments.listen", "--wav", wav]
    lines = subprocess.run(command, capture_output=True, check=True, text=True).stdout.splitlines()
    events = [json.loads(line) for line in lines]
    assert len(events) >= 5
    return [(f"0:{event['time_ms'] // 1000:02d}", event["word"]) for event in events]


@pytest.fixture(scope="module")
def server():
    process = subprocess.Popen(
        [sys.executable, "-m", "experiments.listen", "--serve", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
        text=True,
    )
    process.url = process.stdout.readline().split()[0]
    yield process
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert err == "stopped\n"


@pytest.fixture(scope="module")
def browser(wav):
    """With a microphone into which the words are spoken."""
    arguments = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    arguments += [f"--use-file-for-fake-audio-capture={wav}"]
    with api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield opened
        opened.close()


@pytest.fixture(params=[DESKTOP, PHONE], ids=["desktop", "phone"])
def page(browser, server, request):
    """Connected; at the end nothing may have gone wrong, nor may it scroll sideways."""
    opened = browser.new_page(viewport=request.param)
    wrong = []
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("console", lambda message: wrong.append(message.text))
    opened.goto(server.url)
    opened.wait_for_selector("#mic:enabled")
    yield opened
    wide, room = opened.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    opened.close()
    assert (wrong, wide) == ([], room)


def drop(page, data, name, kind):
    page.evaluate(DROP, [base64.b64encode(data).decode(), name, kind])


def words_on(page):
    rows = page.locator("#list li").all_inner_texts()
    return [tuple(re.split(r"\s+", row)[:2]) for row in rows[::-1]]


def saved_on(page):
    return int(page.inner_text("#saved").split()[0])


def test_a_dropped_wav_shows_the_words_that_listen_hears(page, wav, heard):
    assert page.locator("#graph path").count() == 18
    page.check("#fast")
    drop(page, wav.read_bytes(), "words.wav", "audio/wav")
    api.expect(page.locator("#status")).to_contain_text("the end", timeout=30_000)
    assert words_on(page) == heard
    assert page.inner_text("#words") == str(len(heard))
    assert 30 < saved_on(page) < 95
    assert page.locator("#problem").is_hidden()


def test_at_its_own_pace_edges_light_up_and_it_can_be_stopped(page, wav, heard):
    drop(page, wav.read_bytes(), "words.wav", "audio/wav")
    page.wait_for_selector("#list li", timeout=20_000)
    assert words_on(page) == heard[: len(words_on(page))]
    assert page.locator("#graph path.on").count() > 0
    # Something is drawn, in more than one colour.
    colors = page.evaluate("""() => {
        const plots = document.querySelector("#plots");
        const { data } = plots.getContext("2d").getImageData(0, 0, plots.width, plots.height);
        return new Set(new Uint32Array(data.buffer)).size;
    }""")
    assert colors > 20
    page.click("#stop")
    page.wait_for_selector("#stop:disabled")
    assert "stopped" in page.inner_text("#status")


def test_the_slider_tells_the_network_its_price(page, wav):
    page.check("#fast")
    saved = []
    for key in ("Home", "End"):
        page.focus("#lambda")
        page.keyboard.press(key)
        page.wait_for_timeout(500)  # what the slider says is sent after a moment
        page.evaluate("document.querySelector('#status').innerText = ''")
        page.set_input_files("#file", wav)
        api.expect(page.locator("#status")).to_contain_text("the end", timeout=30_000)
        saved.append(saved_on(page))
    assert saved[0] + 5 < saved[1]
    assert page.inner_text("#lambda-value") == "λ = 2.0"


def test_the_microphone_is_heard(page, heard):
    page.click("#mic")
    page.wait_for_selector("#list li", timeout=30_000)
    assert words_on(page)[0][1] in {word for _, word in heard}
    page.click("#stop")
    page.wait_for_selector("#mic:enabled")
    assert page.inner_text("#status") == "microphone: stopped"


def test_the_demo_stream_is_made_and_what_is_said_is_shown(page):
    page.check("#fast")
    page.click("#demo")
    page.wait_for_selector("#said-legend:visible", timeout=30_000)
    api.expect(page.locator("#status")).to_contain_text("the end", timeout=30_000)
    assert page.locator("#list li").count() > 5


def test_what_cannot_be_heard_is_said_on_the_page(browser, server):
    page = browser.new_page()
    page.goto(server.url)
    page.wait_for_selector("#mic:enabled")
    drop(page, b"no audio at all", "a.wav", "audio/wav")
    page.wait_for_selector("#problem:visible")
    expected = "file: expected audio, got Format not recognised"
    assert expected in page.inner_text("#problem")
    drop(page, b"text", "a.txt", "text/plain")
    api.expect(page.locator("#problem")).to_contain_text("text/plain")
    page.click("#problem button")
    assert page.locator("#problem").is_hidden()
    page.close()


def test_a_page_says_that_the_server_stopped(browser, server):
    page = browser.new_page()
    page.goto(server.url)
    page.wait_for_selector("#mic:enabled")
    server.send_signal(signal.SIGINT)
    page.wait_for_selector("#problem:visible")
    expected = "The server ended the connection: the server stops."
    assert expected in page.inner_text("#problem")
    assert page.locator("#mic").is_disabled()
    page.close()
