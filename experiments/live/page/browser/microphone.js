// Runs in the audio thread: what the microphone hears, as 16-bit PCM in pieces of 4096 bytes.
const PIECE = 2048;

class Microphone extends AudioWorkletProcessor {
  piece = new Int16Array(PIECE);
  filled = 0;

  process([input]) {
    for (const sample of input[0] ?? []) {
      this.piece[this.filled++] = Math.max(-1, Math.min(1, sample)) * 32767;
      if (this.filled === PIECE) {
        this.port.postMessage(this.piece.buffer, [this.piece.buffer]);
        this.piece = new Int16Array(PIECE);
        this.filled = 0;
      }
    }
    return true;
  }
}

registerProcessor("microphone", Microphone);
