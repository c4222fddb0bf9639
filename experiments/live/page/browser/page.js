// The page: its connection to the server, its controls, and where what comes is shown.

import { Network } from "./network.js";
import { Plots, clock, short } from "./plots.js";

const MOST_WORDS = 200; // in the list
const TELL_MS = 100; // between two messages of the slider

const $ = (id) => document.getElementById(id);
const plots = new Plots($("plots"));
const network = new Network($("graph"));

let socket; // the connection, once it is open
let model; // the server's description of it
let playing; // the message "start" of the present source
let microphone; // {context, stream} while it is open
let dropped; // the file whose sound may be played

// ---------------------------------------------------------------- connection

function connect() {
  state("wait", "connecting …");
  const opening = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/live`);
  opening.onmessage = ({ data }) => receive(JSON.parse(data));
  opening.onopen = () => (socket = opening);
  opening.onclose = ({ reason }) => {
    socket = undefined;
    ended();
    enable(false);
    state("wrong", "not connected");
    problem(`The server ended the connection${reason ? `: ${reason}` : ""}.`, connect);
  };
}

function send(message) {
  if (socket?.readyState === WebSocket.OPEN) {
    socket.send(message instanceof ArrayBuffer ? message : JSON.stringify(message));
  }
}

const receivers = { hello, wait, start, heard, note, end, error };

function receive(message) {
  receivers[message.type]?.(message);
}

function hello(message) {
  model = message;
  problem("");
  $("model").textContent = model.model;
  $("vocabulary").textContent = `It knows ${model.words.join(", ")}.`;
  plots.describe(model);
  network.show(model.network);
  showPrice(model.price);
  enable(true);
  state("idle", "ready");
}

function wait({ message }) {
  state("wait", message);
}

function start(message) {
  playing = message;
  if (message.source !== "mic") closeMicrophone();
  $("mic").disabled = message.source === "mic";
  problem("");
  plots.clear(message.said);
  $("said-legend").hidden = !message.said?.length;
  $("list").replaceChildren();
  $("stop").disabled = false;
  state("live", message.name);
  playSound();
}

function heard(message) {
  plots.add(message);
  const { steps, totals } = message;
  if (steps.length) {
    const last = steps.at(-1);
    network.light(last.live);
    $("now").textContent = `${spoken(last.word)} ${percent(last.score)}`;
    $("now").classList.toggle("quiet", last.word.startsWith("_"));
  }
  for (const step of steps) if (step.fired) listWord(step);
  $("words").textContent = totals.words;
  if (totals.macs_saved === undefined) return;
  $("saved").textContent = percent(totals.macs_saved);
  const front = totals.frontend_macs;
  $("front").textContent = front ? `${short(front)} MACs` : "among edges";
  $("ms").textContent = totals.ms_per_frame.toFixed(2);
  $("p99").textContent = totals.ms_per_frame_p99.toFixed(2);
  if (playing) {
    const whole = playing.seconds ? ` of ${clock(playing.seconds)}` : "";
    state("live", `${playing.name}, ${clock(totals.seconds)}${whole}`);
  }
}

function note({ message }) {
  problem(message);
}

function end({ reason }) {
  const name = playing?.name;
  ended();
  state("idle", reason.startsWith("no audio") ? reason : `${name ?? "source"}: ${reason}`);
}

function error({ message }) {
  problem(message);
}

function ended() {
  playing = undefined;
  closeMicrophone();
  $("player").pause();
  $("stop").disabled = true;
  $("mic").disabled = false;
}

// ---------------------------------------------------------------- sources

async function openMicrophone() {
  if (!navigator.mediaDevices || !window.AudioWorkletNode) {
    // Browsers give microphones to pages of this machine or over https alone.
    problem("The browser gives this page no microphone: open it as localhost or over https.");
    return;
  }
  $("mic").disabled = true;
  try {
    const wanted = { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    const stream = await navigator.mediaDevices.getUserMedia({ audio: wanted });
    const context = new AudioContext();
    microphone = { context, stream };
    await context.audioWorklet.addModule("microphone.js");
    const node = new AudioWorkletNode(context, "microphone", { numberOfOutputs: 0 });
    node.port.onmessage = ({ data }) => send(data);
    stream.getAudioTracks()[0].onended = () => {
      send({ type: "stop" });
      problem("The microphone is gone.");
    };
    send({ type: "mic", rate: context.sampleRate });
    context.createMediaStreamSource(stream).connect(node);
    await context.resume();
  } catch (failure) {
    closeMicrophone();
    $("mic").disabled = false;
    const denied = failure.name === "NotAllowedError" || failure.name === "SecurityError";
    problem(denied ? "The browser was not allowed to use the microphone." : `No microphone: ${failure.message}`);
  }
}

function closeMicrophone() {
  for (const track of microphone?.stream.getTracks() ?? []) {
    track.onended = null;
    track.stop();
  }
  microphone?.context.close();
  microphone = undefined;
}

async function openFile(file) {
  if (!file || !model) return;
  if (file.size > model.limits.bytes) {
    problem(`${file.name}: expected at most ${model.limits.bytes >> 20} MB, got ${Math.ceil(file.size / 2 ** 20)} MB`);
    return;
  }
  dropped = file;
  state("wait", `sending ${file.name} …`);
  const query = new URLSearchParams({ client: model.token, name: file.name, fast: $("fast").checked ? "1" : "0" });
  try {
    const headers = { "Content-Type": file.type || "application/octet-stream" };
    const response = await fetch(`audio?${query}`, { method: "POST", headers, body: file });
    if (!response.ok) throw new Error((await response.json()).error);
  } catch (failure) {
    problem(failure.message);
    state("idle", "ready");
  }
}

function playSound() {
  const player = $("player");
  player.pause();
  if (player.src.startsWith("blob:")) URL.revokeObjectURL(player.src);
  player.removeAttribute("src");
  if (playing.source === "mic" || playing.fast) return;
  player.src = playing.source === "demo" ? "demo.wav" : URL.createObjectURL(dropped);
  player.muted = !$("sound").checked;
  // A browser that cannot play the format, or does not want to, shows the stream all the same.
  player.play().catch(() => {});
}

$("mic").onclick = openMicrophone;
$("demo").onclick = () => send({ type: "demo", fast: $("fast").checked });
$("open").onclick = () => $("file").click();
$("stop").onclick = () => send({ type: "stop" });
$("sound").onchange = () => ($("player").muted = !$("sound").checked);
$("file").onchange = ({ target }) => {
  openFile(target.files[0]);
  target.value = ""; // the same file again is a change, too
};

addEventListener("dragover", (event) => {
  event.preventDefault();
  $("drop").hidden = !event.dataTransfer.types.includes("Files");
});
addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) $("drop").hidden = true;
});
addEventListener("drop", (event) => {
  event.preventDefault();
  $("drop").hidden = true;
  if (event.dataTransfer.files.length) openFile(event.dataTransfer.files[0]);
});

// ---------------------------------------------------------------- price

const slider = $("lambda");
let telling;

function showPrice(price) {
  $("price").hidden = !price;
  if (!price) return;
  slider.value = Math.round(1000 * Math.log(price.value / price.low) / Math.log(price.high / price.low));
  writePrice(price.value);
}

function chosenPrice() {
  const { low, high } = model.price;
  // Back and forth over logarithms may leave the range by a rounding error.
  return Math.min(high, Math.max(low, low * (high / low) ** (slider.value / 1000)));
}

function writePrice(lambda) {
  const spent = spentAt(lambda, model.price.spent);
  $("lambda-value").textContent = `λ = ${lambda.toPrecision(2)}`;
  $("spent").textContent = spent ? `about ${percent(spent / model.full_macs)} of the MACs` : "";
  slider.setAttribute("aria-valuetext", `${$("lambda-value").textContent} ${$("spent").textContent}`);
}

// MACs per frame that validation measured, between the prices at which it did.
function spentAt(lambda, table) {
  const at = table.findIndex(([price]) => price >= lambda);
  if (at < 0) return table.at(-1)?.[1];
  if (at === 0) return table[0][1];
  const [[price0, macs0], [price1, macs1]] = table.slice(at - 1, at + 1);
  const share = Math.log(lambda / price0) / Math.log(price1 / price0);
  return macs0 * (macs1 / macs0) ** share;
}

slider.oninput = () => {
  writePrice(chosenPrice());
  telling ??= setTimeout(() => {
    telling = undefined;
    send({ type: "tell", cost_weight: chosenPrice() });
  }, TELL_MS);
};

// ---------------------------------------------------------------- words

function listWord({ time_ms: ms, word, score }) {
  const item = document.createElement("li");
  for (const [kind, text] of [["time", clock(ms / 1000)], ["word", word], ["score", percent(score)]]) {
    const part = document.createElement("span");
    part.className = kind;
    part.textContent = text;
    item.append(part, " ");
  }
  $("list").prepend(item);
  while ($("list").children.length > MOST_WORDS) $("list").lastChild.remove();
}

function spoken(word) {
  return { _silence_: "silence", _unknown_: "another word" }[word] ?? word;
}

function percent(share) {
  return `${Math.round(100 * share)} %`;
}

function state(kind, text) {
  $("status").dataset.state = kind;
  $("status").textContent = text;
}

function enable(on) {
  for (const id of ["mic", "open"]) $(id).disabled = !on;
  const missing = model?.demo.missing;
  $("demo").disabled = !on || Boolean(missing);
  $("demo").title = missing ? `Demo stream: ${missing}` : "";
  $("hint").textContent = missing ? `The demo stream ${missing}.` : "or drop a WAV on this page";
}

// What went wrong, until it is closed; `again` is what closing does besides.
function problem(text, again) {
  const box = $("problem");
  box.hidden = !text;
  box.querySelector("span").textContent = text;
  const button = box.querySelector("button");
  button.textContent = again ? "Connect again" : "×";
  button.ariaLabel = again ? "Connect again" : "Close";
  button.onclick = () => {
    box.hidden = true;
    again?.();
  };
}

connect();
