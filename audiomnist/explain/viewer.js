// Relevance to look at and to listen to, in `root`. report: what audiomnist/explain/report.py makes.
function view(root, report) {
  root.replaceChildren(document.getElementById("viewer").content.cloneNode(true));
  const find = name => root.querySelector(name), choice = name => find(`[name=${name}]`);
  const canvas = find("canvas"), pen = canvas.getContext("2d"), [whole, relevant] = root.querySelectorAll("audio");
  const frame = {left: 80, top: 10, right: 84, bottom: 42};
  let size, plot;

  const recording = () => report.recordings[choice("recording").value];
  const shown = () => recording().explanations[choice("composite").value][choice("target").value];
  const x = seconds => frame.left + plot.width * (seconds - recording().start) / (recording().end - recording().start);

  const bytes = text => Int8Array.from(atob(text), letter => letter.charCodeAt(0));

  // blue - white - red, as drawn by the pictures: relevance r in -1..1
  function colour(r) {
    const fade = Math.round(255 * (1 - Math.min(1, 2 * Math.abs(r)))), deep = Math.round(255 - 127 * Math.max(0, 2 * Math.abs(r) - 1));
    return r >= 0 ? [deep, fade, fade] : [fade, fade, deep];
  }

  // the least of 1, 2, 5, 10, 20, ... (and their tenths) of which at most so many fit into a span
  function step(span, most) {
    const power = 10 ** Math.floor(Math.log10(span / most));
    return [1, 2, 5, 10].map(k => k * power).find(size => span / size <= most);
  }

  function spectrogram(input, relevance, [height, width]) {
    const small = make("canvas", {width, height}), target = small.getContext("2d"), pixels = target.createImageData(width, height);
    for (let row = 0; row < height; row++) for (let column = 0; column < width; column++) {
      const from = row * width + column, to = 4 * ((height - 1 - row) * width + column);
      const grey = 127 - input[from], r = relevance[from] / 127, opacity = Math.sqrt(Math.abs(r)), c = colour(r);
      for (let k = 0; k < 3; k++) pixels.data[to + k] = grey * (1 - opacity) + c[k] * opacity;
      pixels.data[to + 3] = 255;
    }
    target.putImageData(pixels, 0, 0);
    pen.imageSmoothingEnabled = false;
    pen.drawImage(small, frame.left, frame.top, plot.width, plot.height);
  }

  function waveform(input, relevance, {start, end}) {
    const y = value => frame.top + plot.height * (0.5 - value / 127 * 0.48), sample = (end - start) / input.length;
    pen.lineWidth = 1;
    for (const coloured of [false, true]) for (let i = 0; i + 1 < input.length; i++) {
      const r = relevance[i] / 127;
      if (coloured && Math.abs(r) < 0.02) continue;
      const [red, green, blue] = coloured ? colour(r) : [205, 205, 205];
      pen.strokeStyle = `rgba(${red},${green},${blue},${coloured ? Math.max(0.1, Math.abs(r)) : 1})`;
      pen.beginPath();
      pen.moveTo(x(start + i * sample), y(input[i]));
      pen.lineTo(x(start + (i + 1) * sample), y(input[i + 1]));
      pen.stroke();
    }
  }

  function axes({start, end, hertz}) {
    pen.fillStyle = pen.strokeStyle = "#222";
    pen.strokeRect(frame.left, frame.top, plot.width, plot.height);
    pen.textAlign = "center"; pen.textBaseline = "top";
    const seconds = step(end - start, Math.min(12, plot.width / 40)), digits = Math.max(0, Math.ceil(-Math.log10(seconds) - 1e-9));
    for (let k = Math.ceil(start / seconds); k * seconds <= end + 1e-9; k++)
      pen.fillText((k * seconds).toFixed(digits), x(k * seconds), frame.top + plot.height + 6);
    pen.fillText("time (s)", frame.left + plot.width / 2, frame.top + plot.height + 23);
    pen.textAlign = "right"; pen.textBaseline = "middle";
    if (hertz) {
      const [low, high] = hertz, between = step(high - low, 10);
      for (let f = Math.ceil(low / between) * between; f <= high; f += between)
        pen.fillText(Math.round(f) + " Hz", frame.left - 6, frame.top + plot.height * (1 - (f - low) / (high - low)));
    } else pen.fillText("amplitude", frame.left - 6, frame.top + plot.height / 2);
    const left = size.width - frame.right + 10;
    for (let i = 0; i < plot.height; i++) {
      pen.fillStyle = `rgb(${colour(1 - 2 * i / plot.height).join()})`;
      pen.fillRect(left, frame.top + i, 12, 1);
    }
    pen.fillStyle = "#222"; pen.textAlign = "left";
    for (const part of [1, 0, -1])
      pen.fillText((part * shown().limit).toPrecision(2), left + 16, frame.top + plot.height * (0.5 - part / 2) + 6 * part);
    pen.fillText("R", left + 16, frame.top + plot.height / 4);
  }

  function draw() {
    const one = recording(), scale = window.devicePixelRatio || 1, width = canvas.parentElement.clientWidth;
    size = {width, height: Math.min(460, Math.max(280, width * 0.46))};
    plot = {width: width - frame.left - frame.right, height: size.height - frame.top - frame.bottom};
    canvas.width = size.width * scale; canvas.height = size.height * scale;
    pen.scale(scale, scale);
    pen.font = "13px system-ui, sans-serif";
    pen.fillStyle = "#fff"; pen.fillRect(0, 0, size.width, size.height);
    const input = bytes(one.input), relevance = bytes(shown().relevance);
    if (one.hertz) spectrogram(input, relevance, one.shape.slice(1)); else waveform(input, relevance, one);
    axes(one);
  }

  function change() {
    const one = recording(), name = k => report.classes[k] === String(k) ? k : `${report.classes[k]} (${k})`;
    const facts = `${one.name}: ${one.label === null ? "" : "label " + one.label + ", "}predicted ${name(one.prediction)}, ` +
      `explained ${name(choice("target").value)}; ${choice("composite").value}, ${shown().measure}, score = ${shown().score.toPrecision(4)}`;
    find(".facts").textContent = facts;
    find(".rules").textContent = report.rules[choice("composite").value];
    canvas.ariaLabel = `Relevance over the ${one.hertz ? "spectrogram" : "waveform"}. ${facts}`;
    for (const [sound, text] of [[whole, one.sound], [relevant, shown().sound]]) {
      const source = "data:audio/wav;base64," + text;
      sound.pause();
      if (text && sound.src !== source) sound.src = source;
    }
    find(".sounds").hidden = !one.sound;
    find(".sounds + p").hidden = Boolean(one.sound);
    draw();
  }

  function choose(name, values) {
    for (const [value, text] of values) choice(name).add(new Option(text, value));
    choice(name).parentElement.hidden = values.length < 2;
    choice(name).onchange = () => { if (name === "recording") choice("target").value = recording().prediction; change(); };
  }
  choose("recording", report.recordings.map((one, index) => [index, one.name]));
  choose("composite", Object.keys(report.rules).map(name => [name, name]));
  choose("target", report.classes.map((name, index) => [index, name]));
  choice("target").value = report.recordings[0].prediction;
  follow(canvas.parentElement, [whole, relevant], seconds =>
    x(Math.min(recording().end, Math.max(recording().start, seconds))) / size.width);
  change();
  new ResizeObserver(() => { if (canvas.parentElement.clientWidth !== size.width) draw(); }).observe(root);
}
