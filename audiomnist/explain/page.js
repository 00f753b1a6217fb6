"use strict";

const make = (name, properties = {}, ...children) => {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
};

// A click on a column's head, or Enter on it, sorts its table: numbers by size, all else as words; empty cells last.
function sortable(table) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0], words = new Intl.Collator("en", {numeric: true});
  heads.forEach((head, column) => {
    const button = make("button", {type: "button"}, ...head.childNodes);
    head.append(button);
    button.onclick = () => {
      const way = head.ariaSort === "ascending" ? -1 : 1, cell = row => row.cells[column].textContent.trim();
      const rows = [...body.rows], filled = rows.map(cell).filter(text => text), numbers = filled.every(text => !isNaN(text));
      const order = (a, b) => numbers ? a - b : words.compare(a, b);
      rows.sort((a, b) => !cell(a) - !cell(b) || way * order(cell(a), cell(b)));
      body.append(...rows);
      for (const other of heads) other.ariaSort = null;
      head.ariaSort = way === 1 ? "ascending" : "descending";
    };
  });
}

// Figures open over the whole window, as large as they are drawn; Escape or the button closes them.
function zoomable(images) {
  const room = make("div", {tabIndex: 0, role: "group", ariaLabel: "the figure, enlarged"});
  const dialog = make("dialog", {ariaLabel: "enlarged figure"},
    make("form", {method: "dialog"}, make("button", {}, "close")), room);
  if (images.length) document.body.append(dialog);
  for (const image of images) {
    const button = make("button", {type: "button", className: "zoom", title: "enlarge"});
    image.replaceWith(button);
    button.append(image);
    button.onclick = () => {
      room.replaceChildren(image.cloneNode());
      dialog.showModal();
    };
  }
}

// The line over a picture that shows where the sound is. place(seconds) gives its share of the picture's width.
function follow(picture, sounds, place) {
  const line = make("div", {className: "cursor", hidden: true});
  picture.append(line);
  for (const sound of sounds) {
    const show = () => {
      line.hidden = sound.ended || !sound.currentTime && sound.paused;
      line.style.left = 100 * place(sound.currentTime) + "%";
      if (!sound.paused) requestAnimationFrame(show);
    };
    sound.onplay = () => {
      for (const other of document.querySelectorAll("audio")) if (other !== sound) other.pause();
      show();
    };
    sound.onseeked = sound.onended = show;
    sound.onemptied = () => { line.hidden = true; };
  }
}

// The curve of a WAV file of 16 bits above its player
function curve(figure) {
  const sound = figure.querySelector("audio"), canvas = figure.querySelector("canvas"), pen = canvas.getContext("2d");
  const raw = Uint8Array.from(atob(sound.src.split(",")[1]), letter => letter.charCodeAt(0));
  const samples = new Int16Array(raw.buffer, 44, raw.length - 44 >> 1), {width, height} = canvas;
  const peak = samples.reduce((most, value) => Math.max(most, Math.abs(value)), 1);
  for (let x = 0; x < width; x++) {
    const part = samples.subarray(x * samples.length / width, (x + 1) * samples.length / width + 1);
    const [low, high] = part.reduce(([a, b], value) => [Math.min(a, value), Math.max(b, value)], [0, 0]);
    pen.fillRect(x, height / 2 * (1 - high / peak), 1, Math.max(1, height / 2 * (high - low) / peak));
  }
  follow(canvas.parentElement, [sound], seconds => sound.duration ? seconds / sound.duration : 0);
}

document.querySelectorAll("table.sortable").forEach(sortable);
zoomable(document.querySelectorAll("figure > img"));
document.querySelectorAll(".sound").forEach(curve);

const contents = document.querySelector("nav details");
if (contents) {  // beside the text where there is room, else folded above it
  const wide = matchMedia("(min-width: 64rem)"), fold = () => { contents.open = wide.matches; };
  wide.onchange = fold;
  contents.onclick = event => { if (event.target.closest("a")) fold(); };
  fold();
}
