"use strict";
// Runs beside the page, in the thread of the sound: it hands on every sample that the microphone delivers, in blocks of about 20 ms.
class Microphone extends AudioWorkletProcessor {
  constructor() {
    super();
    this.block = new Float32Array(1024);
    this.filled = 0;
  }

  process([channels]) {
    if (channels.length === 0) return true;  // nothing is connected just now
    const samples = channels[0].length;
    for (let place = 0; place < samples; place++) {
      let sum = 0;
      for (const channel of channels) sum += channel[place];
      this.block[this.filled++] = sum / channels.length;
      if (this.filled === this.block.length) {
        this.port.postMessage(this.block);  // copied, so that the block can be filled again
        this.filled = 0;
      }
    }
    return true;
  }
}

registerProcessor("microphone", Microphone);
