const element = id => document.getElementById(id), {seconds} = JSON.parse(element("data").textContent);
const PATIENCE = 5;  // s that a microphone may take to wake up

// Why there is no sound, by the names that browsers give
const REASONS = {
  NotAllowedError: "microphone: expected leave to listen, got none: allow it beside the page's address, or take a WAV file",
  NotFoundError: "microphone: expected one, got none: connect it, or take a WAV file",
  NotReadableError: "microphone: expected one that is free, got one that another program uses",
};

// The bytes of a WAV file (mono, 16 bit) of parts with samples in -1..1
function wav(parts, rate) {
  const count = parts.reduce((sum, part) => sum + part.length, 0), file = new DataView(new ArrayBuffer(44 + 2 * count));
  [0x52494646, 0, 0x57415645, 0x666d7420].forEach((word, k) => file.setUint32(4 * k, word));  // RIFF, size, WAVE, "fmt "
  file.setUint32(4, 36 + 2 * count, true);
  file.setUint32(16, 16, true);
  [1, 1].forEach((word, k) => file.setUint16(20 + 2 * k, word, true));  // PCM, one channel
  [rate, 2 * rate].forEach((word, k) => file.setUint32(24 + 4 * k, word, true));
  [2, 16].forEach((word, k) => file.setUint16(32 + 2 * k, word, true));  // bytes and bits of a sample
  file.setUint32(36, 0x64617461);  // data
  file.setUint32(40, 2 * count, true);
  let place = 44;
  for (const part of parts) for (const sample of part) {
    file.setInt16(place, Math.max(-32768, Math.min(32767, Math.round(32767 * sample))), true);
    place += 2;
  }
  return file.buffer;
}

// A few seconds of the microphone as a WAV file, without what browsers do to voices on the telephone
async function listen() {
  if (!navigator.mediaDevices) throw Error("microphone: expected a browser that gives it to this page, got one that does not");
  const audio = {channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false};
  const stream = await navigator.mediaDevices.getUserMedia({audio}), context = new AudioContext();
  try {
    await context.audioWorklet.addModule("recorder.js");
    const recorder = new AudioWorkletNode(context, "recorder", {channelCount: 1, channelCountMode: "explicit"});
    const parts = [];
    await context.resume();
    element("status").textContent = "listening: say it now";
    await new Promise((done, failed) => {
      let count = 0;
      setTimeout(failed, 1000 * (seconds + PATIENCE), Error("microphone: expected sound, got nothing from it"));
      recorder.port.onmessage = ({data}) => {
        parts.push(data);
        count += data.length;
        if (count >= seconds * context.sampleRate) done();
      };
      context.createMediaStreamSource(stream).connect(recorder);
    });
    return wav(parts, context.sampleRate);
  } finally {
    stream.getTracks().forEach(track => track.stop());
    context.close();
  }
}

function show(answers) {
  element("answers").replaceChildren();
  for (const {name, best, classes, report} of answers) {
    const percent = share => (100 * share).toFixed(1), body = make("tbody"), picture = make("div");
    for (const [word, share] of [...classes].sort((a, b) => b[1] - a[1]))
      body.append(make("tr", {}, make("td", {}, word), make("td", {}, percent(share)),
        make("td", {}, make("meter", {value: share, ariaLabel: `${word}: ${percent(share)} %`}))));
    const heads = ["answer", "probability (%)"].map(text => make("th", {scope: "col"}, text));
    const table = make("table", {}, make("thead", {}, make("tr", {}, ...heads, make("td"))), body);
    element("answers").append(make("section", {ariaLabel: name},
      make("h2", {}, `${name} hears: ${classes[best][0]}`), make("div", {className: "answer"}, table, picture)));
    view(picture, report);
  }
  element("status").textContent = answers.map(({name, best, classes}) => `${name} hears: ${classes[best][0]}`).join("; ");
}

// One recording from where `source` takes it to the answers, or to a sentence why there are none. The button is not
// disabled meanwhile, which would take the keyboard's place away; it does nothing.
async function explain(source) {
  const button = element("listen");
  if (button.ariaDisabled) return;
  button.ariaDisabled = "true";
  element("problem").textContent = "";
  try {
    const recording = await source();
    element("status").textContent = "thinking";
    const answer = await fetch("", {method: "POST", body: recording}).catch(() => {
      throw Error("program: expected an answer, got none: is recognise still running?");
    });
    const said = await answer.json();
    if (!answer.ok) throw Error(said.error);
    show(said);
  } catch (problem) {
    element("status").textContent = "";
    element("problem").textContent = REASONS[problem.name] || problem.message;
  }
  button.ariaDisabled = null;
}

element("listen").onclick = () => explain(listen);
element("file").onchange = ({target}) => {
  const [file] = target.files;
  if (file) explain(() => file.arrayBuffer()).then(() => { target.value = ""; });  // so that it can be taken again
};
