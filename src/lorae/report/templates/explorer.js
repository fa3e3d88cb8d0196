// The explorer: its state, its stage and its sliders. Codes are standardized coordinates: 0 is the
// mean, 1 a standard deviation.

"use strict";

const K = data.shares.length;
const LIMIT = 3; // of sliders, in standard deviations
const FIRST = 8; // coordinates that are shown at first

// Decoding

let decoder = null;
let output = null;
if (data.decoder) {
  decoder = new Decoder(data.decoder);
  output = makeLayer(data.decoder.output, decodeFloats(data.decoder.outputWeights));
}

/** Return the values that a code decodes to; the next call overwrites them. */
function decode(code) {
  return output(decoder.run(code));
}

// The state of the page, and its only way to the screen: change the state, then `update`

const state = {
  code: new Float64Array(K),
  preview: null, // the code under the pointer
  selected: null, // the number of a sample
  compared: false, // whether its nearest training sample is shown
  path: null, // { from, to, time, playing }
  linking: false, // whether the next sample selected ends an interpolation
  axes: [0, Math.min(1, K - 1)],
  caption: "Mean of the codes",
};
let samples, neighbours, frames, reconstructions, codes, errors, draws, table;
let pending = false;

function update() {
  if (pending) return;
  pending = true;
  requestAnimationFrame(() => {
    pending = false;
    drawStage();
    drawMap();
    drawSliders();
  });
}

function codeOf(k) {
  return Float64Array.from(codes.subarray(k * K, (k + 1) * K));
}

function nameOf(k) {
  if (!data.labels.length) return `Sample ${k + 1}`;
  const label = data.labels[k];
  return `Sample ${k + 1}, label ${isNumber(label) ? format(Number(label)) : label}`;
}

function announce(text) {
  $("status").textContent = text;
}

function moveTo(code, caption) {
  Object.assign(state, { code, caption, preview: null });
  if (state.path && !state.path.playing) closePath();
  update();
}

function reset() {
  state.path = null;
  Object.assign(state, { selected: null, compared: false, linking: false });
  moveTo(new Float64Array(K), "Mean of the codes");
  announce("All coordinates are at their mean.");
}

function draw() {
  const count = draws.length / K;
  const k = Math.floor(Math.random() * count);
  state.path = null;
  Object.assign(state, { selected: null, compared: false, linking: false });
  moveTo(Float64Array.from(draws.subarray(k * K, (k + 1) * K)), "Random draw from the fitted density");
  announce("A random draw.");
}

function select(k, compared = false) {
  if (state.linking && state.selected !== null && state.selected !== k) {
    interpolate(state.selected, k);
    return;
  }
  state.path = null;
  Object.assign(state, { selected: k, compared: compared && !!neighbours, linking: false });
  moveTo(codeOf(k), `Reconstruction, error ${format(errors[k])}`);
  announce(`${nameOf(k)}, reconstruction error ${format(errors[k])}.`);
}

// Interpolations

function interpolate(from, to) {
  if (!decoder) return;
  state.linking = false;
  state.path = { from: typeof from === "number" ? codeOf(from) : from,
    to: typeof to === "number" ? codeOf(to) : to, ends: [from, to], time: 0, playing: true };
  state.preview = null;
  const name = (end) => (typeof end === "number" ? nameOf(end) : "a point");
  announce(`Interpolation from ${name(from)} to ${name(to)}.`);
  requestAnimationFrame(play);
}

let last = null;

function play(now) {
  const path = state.path;
  if (!path || !path.playing) {
    last = null;
    return;
  }
  path.time = Math.min(1, path.time + (last === null ? 0 : (now - last) / 2500));
  last = now;
  if (path.time === 1) path.playing = false;
  seek(path.time);
  requestAnimationFrame(play);
}

function seek(time) {
  const { from, to } = state.path;
  state.path.time = time;
  state.code = from.map((value, k) => value + time * (to[k] - value));
  state.caption = `Interpolation, ${Math.round(100 * time)} % of the way`;
  state.preview = null;
  update();
}

function closePath() {
  state.path = null;
}

// The stage

function drawStage() {
  const { selected, preview, path } = state;
  const stored = !decoder && selected !== null ? reconstructions(selected) : null;
  const middle = Math.floor(data.steps.length / 2);
  const values = decoder ? decode(preview ?? state.code) : stored ?? frames(middle);
  const shown = references();
  if (table) table.paint(values, shown);
  else paint($("decoded"), values, ...(view.kind === "signal" && !path ? [shown[0].values] : []));
  const [x, y] = state.axes;
  $("caption").textContent = preview
    ? `Coordinate ${x + 1} at ${signed(preview[x])}, coordinate ${y + 1} at ${signed(preview[y])}`
    : state.caption;
  if (!table) $("decoded").setAttribute("aria-label", `Decoded sample. ${$("caption").textContent}`);
  reference($("sample"), shown[0]);
  reference($("neighbour"), shown[1]);
  $("compare").disabled = selected === null || !neighbours;
  $("compare").setAttribute("aria-pressed", String(selected !== null && state.compared));
  $("link").disabled = selected === null || !decoder;
  $("link").setAttribute("aria-pressed", String(state.linking));
  $("playback").hidden = path === null;
  if (path) {
    $("time").value = path.time;
    $("play").textContent = path.playing ? "Pause" : "Play";
  }
}

/** Return the two samples beside the decoded one: ends of an interpolation, or sample and neighbour. */
function references() {
  const { selected, path } = state;
  if (path) {
    return path.ends.map((end, k) => {
      const header = ["From", "To"][k];
      if (typeof end !== "number") return { values: null, header, caption: "" };
      return { values: samples(end), header, caption: `${header} s${nameOf(end).slice(1)}` };
    });
  }
  const sample = { values: null, header: "Sample", caption: "" };
  const near = { values: null, header: "Nearest", caption: "" };
  if (selected !== null) Object.assign(sample, { values: samples(selected), caption: nameOf(selected) });
  if (selected !== null && state.compared) {
    near.values = neighbours.values(data.neighbours.index[selected]);
    near.caption = `Nearest training sample, differs by ${format(neighbours.apart[selected])}`;
  }
  return [sample, near];
}

function reference(figure, { values, caption }) {
  figure.hidden = values === null;
  if (values === null) return;
  const canvas = figure.querySelector("canvas");
  canvas.setAttribute("aria-label", caption);
  figure.querySelector("figcaption").textContent = caption;
  if (!table) paint(canvas, values);
}

// Coordinates: a slider each, with a filmstrip

const sliders = [];

function makeCoordinates() {
  const largest = Math.max(...data.shares, 1e-12);
  data.shares.forEach((share, k) => {
    const bar = make("span", { class: "share" });
    bar.style.width = `${Math.max(0.5, (100 * share) / largest)}%`;
    const value = make("output", { class: "n" });
    const { strip, paintFrames } = table ? makeEffects(k) : makeStrip(k);
    const parts = [
      make("div", { class: "head" }, make("h3", {}, `Coordinate ${k + 1}`),
        make("span", { class: "shares" }, bar), make("span", { class: "n" }, percent(share)), value),
      strip,
    ];
    const slider = make("input", { type: "range", min: -LIMIT, max: LIMIT, step: 0.01, value: 0,
      id: `u${k + 1}`, "aria-label": `Coordinate ${k + 1}, ${percent(share)} of the variance` });
    if (decoder) {
      slider.addEventListener("input", () => slide(k, Number(slider.value)));
      slider.addEventListener("dblclick", () => slide(k, 0));
      parts.push(slider);
    }
    const item = make("li", { class: "coordinate" }, ...parts);
    item.hidden = k >= FIRST;
    $("coordinates").append(item);
    sliders.push({ item, slider, value, paintFrames });
  });
  $("more").hidden = K <= FIRST;
  $("more").textContent = `Show all ${K} coordinates`;
}

/** Return the pictures of a coordinate from -2 to +2 deviations, and what paints one of them. */
function makeStrip(k) {
  const strip = make("div", { class: "strip", "aria-hidden": "true" });
  const cells = data.steps.map((step) => {
    const canvas = picture("");
    if (decoder) canvas.addEventListener("click", () => slide(k, step));
    return canvas;
  });
  strip.append(...cells);
  if (!decoder) {
    strip.removeAttribute("aria-hidden");
    strip.setAttribute("role", "img");
    strip.setAttribute("aria-label", `Coordinate ${k + 1} from −2 to +2 standard deviations`);
  }
  return { strip, paintFrames: cells.map((canvas, f) => () => paint(canvas, frameOf(k, f))) };
}

/** Return the columns of a table that a coordinate changes most, and what fills them in. */
function makeEffects(k) {
  const header = data.steps.map((step, f) => {
    const cell = make("th", { scope: "col", class: "n" }, step === 0 ? "mean" : signed(step).replace(".00", ""));
    if (decoder) cell.addEventListener("click", () => slide(k, data.steps[f]));
    return cell;
  });
  const strip = make("table", { class: "effects" }, make("thead", {}, make("tr", {}, make("td"), ...header)),
    make("tbody"));
  const frames = () => data.steps.map((_, f) => Float64Array.from(frameOf(k, f)));
  return { strip, paintFrames: [() => paintEffects(strip.tBodies[0], frames())] };
}

/** Return the values of a picture of a filmstrip; the next call may overwrite them. */
function frameOf(k, f) {
  if (!decoder) return frames(k * data.steps.length + f);
  const code = new Float64Array(K);
  code[k] = data.steps[f];
  return decode(code);
}

function slide(k, value) {
  const code = state.code.slice();
  code[k] = value;
  state.path = null;
  moveTo(code, "Decoded from the sliders");
}

function drawSliders() {
  if (!decoder) return;
  sliders.forEach(({ slider, value }, k) => {
    const at = state.code[k];
    if (Number(slider.value) !== at) slider.value = at;
    slider.setAttribute("aria-valuetext", `${signed(at)} standard deviations`);
    value.textContent = signed(at);
  });
}

/** Paint the filmstrips that are shown, one picture at a time between other events. */
function paintStrips() {
  const jobs = sliders.flatMap(({ item, paintFrames }) => (item.hidden ? [] : paintFrames));
  let next = 0;
  const work = () => {
    const end = performance.now() + 10;
    while (next < jobs.length && performance.now() < end) jobs[next++]();
    if (next < jobs.length) setTimeout(work);
    else document.documentElement.dataset.ready = "true";
  };
  work();
}

// Samples with the largest and the smallest error

function makeExtremes() {
  for (const name of ["worst", "best"]) {
    for (const k of data[name]) {
      const decoded = () => (decoder ? decode(codeOf(k)) : reconstructions(k));
      const pictures = table ? describeErrors(samples(k), decoded()) : [picture(""), picture("")];
      const button = make("button", { type: "button", class: "pair",
        "aria-label": `${nameOf(k)}, reconstruction error ${format(errors[k])}` },
        ...pictures, make("span", { class: "n error", "aria-hidden": "true" }, `error ${format(errors[k])}`));
      button.addEventListener("click", (event) => select(k, event.shiftKey));
      $(name).append(make("li", {}, button));
      if (!table) button.paint = () => {
        paint(pictures[0], samples(k));
        paint(pictures[1], decoded());
      };
    }
  }
}

function repaint() {
  colourMap();
  paintStrips();
  for (const button of document.querySelectorAll(".pair")) button.paint?.();
  update();
}

// Start

async function start() {
  codes = decodeFloats(data.codes);
  errors = decodeFloats(data.errors);
  draws = decodeFloats(data.draws);
  samples = await unpack(data.samples);
  if (data.neighbours)
    neighbours = { values: await unpack(data.neighbours.samples), apart: decodeFloats(data.neighbours.apart) };
  if (!decoder) {
    frames = await unpack(data.frames);
    reconstructions = await unpack(data.reconstructions);
  }
  makeChannels($("channels"));
  if (view.kind === "table") table = new ColumnTable($("decoded"));
  else $("decoded").className = `picture ${view.kind}`;
  for (const canvas of document.querySelectorAll(".reference canvas")) canvas.className = `picture ${view.kind}`;
  document.documentElement.style.setProperty("--aspect", String(aspect()));
  for (const [axis, id] of [[0, "x"], [1, "y"]]) {
    data.shares.forEach((share, k) => $(id).append(make("option", { value: k }, `${k + 1} (${percent(share)})`)));
    $(id).value = String(state.axes[axis]);
    $(id).addEventListener("change", () => {
      state.axes[axis] = Number($(id).value);
      fitMap();
      update();
    });
  }
  makeCoordinates();
  makeExtremes();
  fitMap();
  $("colour").addEventListener("change", () => {
    colourMap();
    update();
  });
  const listeners = { pointerdown: onDown, pointermove: onMove, pointerup: onUp, pointerleave: onLeave,
    pointercancel: onCancel, keydown: onMapKey };
  for (const [name, listener] of Object.entries(listeners)) map.canvas.addEventListener(name, listener);
  $("reset").addEventListener("click", reset);
  $("draw").addEventListener("click", draw);
  $("compare").addEventListener("click", () => {
    state.compared = !state.compared;
    update();
  });
  $("link").addEventListener("click", () => {
    state.linking = !state.linking;
    announce(state.linking ? "The next sample selected ends the interpolation." : "");
    update();
  });
  $("play").addEventListener("click", () => {
    const path = state.path;
    path.playing = !path.playing;
    if (path.playing && path.time === 1) path.time = 0;
    requestAnimationFrame(play);
    update();
  });
  $("time").addEventListener("input", () => {
    state.path.playing = false;
    seek(Number($("time").value));
  });
  $("more").addEventListener("click", () => {
    for (const { item } of sliders) item.hidden = false;
    $("more").hidden = true;
    paintStrips();
  });
  dark.addEventListener("change", repaint);
  addEventListener("resize", () => {
    if (view.kind === "signal") repaint();
    else update();
  });
  repaint();
}

start();
