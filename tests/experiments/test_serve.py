"""The live page as a command: flags, its end, what it ships, detectors that change."""

import asyncio
import configparser
import dataclasses
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from aiohttp import ClientSession, WSMsgType

import experiments
from data_prep.command.atomic import write_json
from experiments import listen, serve
from experiments.live.engine import Engine
from experiments.live.page import content as live_page
from sanas_jax.streaming.detector import Detector
from tests.helpers.live import RATE, small_engine
from tests.helpers.page import page_of, server_of, steps_of, until
from tests.helpers.places import ROOT


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    return small_engine(tmp_path_factory.mktemp("serve"))


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--serve", "--wav", "a.wav"], "--serve: expected no other source"),
        (["--serve", "--json", "a"], "--serve: expected neither --every_step nor --json"),
        (["--serve", "--port", "70000"], "port"),
        (["--serve", "--host", "nowhere.invalid"], "--host, --port: expected an address"),
    ],
)
def test_bad_flags_are_one_line(monkeypatch, capsys, argv, message):
    monkeypatch.setattr(sys, "argv", ["listen", *argv])
    with pytest.raises(SystemExit) as stopped:
        listen.cli()
    _, err = capsys.readouterr()
    assert stopped.value.code == 1
    assert err.count("\n") == 1
    assert message in err


def test_a_port_in_use_is_one_line(monkeypatch, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setattr(sys, "argv", ["serve", "--port", str(taken.getsockname()[1])])
        with pytest.raises(SystemExit) as stopped:
            serve.cli()
    assert stopped.value.code == 1
    err = capsys.readouterr().err
    assert "expected an address that is free" in err
    assert err.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_it_cleanly(sent):
    process = subprocess.Popen(
        [sys.executable, "-m", "experiments.serve", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
        text=True,
    )
    line = process.stdout.readline()
    assert line.startswith("http://127.0.0.1:")
    assert line.rstrip().endswith("kws")

    url = line.split()[0]

    async def body():
        async with (
            ClientSession() as client,
            client.ws_connect(f"{url}live", headers={"Origin": url.rstrip("/")}) as page,
        ):
            await page.send_json({"type": "mic", "rate": RATE})
            await page.send_bytes(bytes(2 * RATE))
            await until(page, "heard")
            process.send_signal(sent)
            while (message := await page.receive()).type == WSMsgType.TEXT:
                pass
            return message

    message = asyncio.run(body())
    assert (message.data, message.extra) == (1001, "the server stops")
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (0, "", "stopped\n")


def test_the_package_ships_the_page():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    patterns = setup["options.package_data"]["experiments"].split()
    package = Path(experiments.__file__).parent
    assert f"{live_page.FOLDER.relative_to(package)}/*" in patterns
    assert {path.name for path in live_page.FOLDER.iterdir()} == set(live_page.TYPES)


def test_detectors_are_those_of_the_start_and_a_page_is_told_of_others(engine, tmp_path):
    """`calibrate` may write them anew, or somebody take the run away, while pages listen."""
    folder = shutil.copytree(engine.model.workdir, tmp_path / "run")
    path = folder / "detector.json"

    def write(thresholds):
        entries = [
            {"cost_weight": price, "settings": {"threshold": threshold}}
            for price, threshold in zip((0.1, 1.0), thresholds, strict=True)
        ]
        write_json(path, {"step": engine.model.step, "detectors": entries})

    write((0.25, 0.5))
    own = Engine(dataclasses.replace(engine.model, workdir=folder), engine.runtime, 0.1)
    assert own.detectors.at(0.1) == Detector(threshold=0.25)

    async def first_messages():
        async with server_of(own) as client, page_of(client) as page:
            await page.send_json({"type": "mic", "rate": RATE})
            await page.send_bytes(bytes(2 * RATE * 2))
            await page.send_json({"type": "tell", "cost_weight": 1.0})
            await page.send_bytes(bytes(2 * RATE))
            await page.send_json({"type": "stop"})
            return await until(page, "end")

    def notes():
        found = asyncio.run(first_messages())
        assert "error" not in {message["type"] for message in found}
        assert len(steps_of(found)) > 5
        return [message["message"] for message in found if message["type"] == "note"]

    assert notes() == []
    write((0.75, 0.75))
    assert notes() == [
        "detector.json has changed: until the server is started again, it is as it was"
    ]
    path.write_text("{")
    assert len(notes()) == 1
    shutil.rmtree(folder)
    assert len(notes()) == 1
    assert own.detectors.at(1.0) == Detector(threshold=0.5)
