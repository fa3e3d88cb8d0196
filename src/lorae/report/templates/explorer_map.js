// The map of the explorer: codes on two coordinates, pointer, touch and keyboard.

"use strict";

const REACH = 14; // of the pointer on the map, in pixels

const map = { canvas: $("map"), span: [[-3, 3], [-3, 3]], colours: [], pointer: null, start: null };

function fitMap() {
  map.span = state.axes.map((axis) => {
    let [low, high] = [-2, 2];
    for (let k = 0; k < errors.length; k++) {
      low = Math.min(low, codes[k * K + axis]);
      high = Math.max(high, codes[k * K + axis]);
    }
    [low, high] = [Math.max(low, -6), Math.min(high, 6)];
    const margin = 0.06 * (high - low);
    return [low - margin, high + margin];
  });
}

function toPixel(code) {
  const { clientWidth: width, clientHeight: height } = map.canvas;
  const [x, y] = state.axes.map((axis, d) => (code[axis] - map.span[d][0]) / (map.span[d][1] - map.span[d][0]));
  return [x * width, (1 - y) * height];
}

/** Return the current code with the two coordinates of a place on the map. */
function toCode([left, top]) {
  const { clientWidth: width, clientHeight: height } = map.canvas;
  const code = state.code.slice();
  const [x, y] = state.axes;
  code[x] = map.span[0][0] + (left / width) * (map.span[0][1] - map.span[0][0]);
  if (x !== y) code[y] = map.span[1][1] - (top / height) * (map.span[1][1] - map.span[1][0]);
  return code;
}

/** Return the number of the sample nearest to a place, or null if none is within reach. */
function sampleAt([left, top], reach = REACH) {
  let [best, nearest] = [reach, null];
  for (let k = 0; k < errors.length; k++) {
    const [x, y] = toPixel(codes.subarray(k * K, (k + 1) * K));
    const distance = Math.hypot(x - left, y - top);
    if (distance < best) [best, nearest] = [distance, k];
  }
  return nearest;
}

function colourMap() {
  const legend = $("legend");
  legend.replaceChildren();
  const byLabel = $("colour").value === "label";
  const numeric = byLabel && data.labels.every(isNumber);
  const kinds = byLabel ? countLabels() : [];
  if (byLabel && !(numeric && kinds.length > 10)) {
    const shown = kinds.slice(0, kinds.length > 10 ? 9 : 10);
    const place = new Map(shown.map((label, k) => [label, k]));
    map.colours = data.labels.map((label) => style(`--c${place.get(label) ?? 9}`));
    const names = kinds.length > 10 ? [...shown, `${kinds.length - 9} others`] : shown;
    names.forEach((name, k) => {
      const swatch = make("span", { class: "swatch" });
      swatch.style.background = style(`--c${k}`);
      legend.append(make("li", {}, swatch, name));
    });
    return;
  }
  const values = byLabel ? data.labels.map(Number) : Array.from(errors, (error) => Math.log(error || 1e-12));
  const sorted = [...values].sort((a, b) => a - b);
  const [low, high] = [0.02, 0.98].map((q) => sorted[Math.round(q * (sorted.length - 1))]);
  map.colours = values.map((value) => ramp(Math.min(Math.max((value - low) / (high - low || 1), 0), 1)));
  const bar = make("span", { class: "gradient" });
  bar.style.background = `linear-gradient(90deg, ${[0, 0.25, 0.5, 0.75, 1].map(ramp).join(", ")})`;
  const text = byLabel ? format : (value) => format(Math.exp(value));
  legend.append(make("li", {}, text(low), bar, text(high)));
}

/** Return the different labels: in order, or of many texts the most frequent first. */
function countLabels() {
  const count = new Map();
  for (const label of data.labels) count.set(label, (count.get(label) ?? 0) + 1);
  const kinds = [...count.keys()];
  if (kinds.every(isNumber)) return kinds.sort((a, b) => a - b);
  return kinds.sort((a, b) => (kinds.length > 10 && count.get(b) - count.get(a)) || a.localeCompare(b));
}

function drawMap() {
  const { context, width, height } = sharpen(map.canvas);
  context.strokeStyle = style("--line");
  context.lineWidth = 1;
  const [ox, oy] = toPixel(new Float64Array(K));
  context.beginPath();
  context.moveTo(Math.round(ox) + 0.5, 0);
  context.lineTo(Math.round(ox) + 0.5, height);
  context.moveTo(0, Math.round(oy) + 0.5);
  context.lineTo(width, Math.round(oy) + 0.5);
  context.stroke();
  const radius = errors.length > 400 ? 2.6 : 3.4;
  context.globalAlpha = 0.8;
  for (let k = 0; k < errors.length; k++) {
    const [left, top] = toPixel(codes.subarray(k * K, (k + 1) * K));
    context.fillStyle = map.colours[k];
    context.beginPath();
    context.arc(left, top, radius, 0, 2 * Math.PI);
    context.fill();
  }
  context.globalAlpha = 1;
  const [x, y] = state.axes.map((axis) => `coordinate ${axis + 1}`);
  write(context, x, "right", width - 8, oy - 6 < 14 ? 14 : oy - 6);
  write(context, y, "left", ox + 6, 16);
  const accent = style("--ink");
  if (map.start && map.pointer && map.dragged) line(context, map.start, map.pointer, accent);
  if (state.path) line(context, toPixel(state.path.from), toPixel(state.path.to), accent);
  if (state.selected !== null) ring(context, toPixel(codeOf(state.selected)), 7, accent, 1.5);
  if (map.near !== null && map.near !== undefined) ring(context, toPixel(codeOf(map.near)), 6, accent, 1);
  if (decoder) cross(context, toPixel(state.preview ?? state.code), accent);
}

/** Write the name of an axis above the points, with an edge that keeps it legible. */
function write(context, text, align, left, top) {
  context.font = `12px ${getComputedStyle(document.body).fontFamily}`;
  context.textAlign = align;
  context.strokeStyle = style("--card");
  context.lineWidth = 4;
  context.strokeText(text, left, top);
  context.fillStyle = style("--muted");
  context.fillText(text, left, top);
}

function line(context, from, to, colour) {
  context.strokeStyle = colour;
  context.lineWidth = 1.5;
  context.setLineDash([5, 4]);
  context.beginPath();
  context.moveTo(...from);
  context.lineTo(...to);
  context.stroke();
  context.setLineDash([]);
}

function ring(context, [left, top], radius, colour, width) {
  context.strokeStyle = colour;
  context.lineWidth = width;
  context.beginPath();
  context.arc(left, top, radius, 0, 2 * Math.PI);
  context.stroke();
}

/** The place of the current code: a disc with a border that shows on points of any colour. */
function cross(context, [left, top], colour) {
  context.fillStyle = colour;
  context.strokeStyle = style("--paper");
  context.lineWidth = 2;
  context.beginPath();
  context.arc(left, top, 5, 0, 2 * Math.PI);
  context.fill();
  context.stroke();
}

function place(event) {
  const box = map.canvas.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
}

function onDown(event) {
  if (event.button !== 0) return;
  map.canvas.setPointerCapture(event.pointerId);
  map.start = place(event);
  map.dragged = false;
}

function onMove(event) {
  map.pointer = place(event);
  map.near = sampleAt(map.pointer);
  map.dragged ||= map.start !== null && Math.hypot(map.pointer[0] - map.start[0], map.pointer[1] - map.start[1]) > 6;
  if (decoder && !(state.path && state.path.playing)) state.preview = toCode(map.pointer);
  else if (!decoder && map.near !== null && map.start === null) map.canvas.title = nameOf(map.near);
  update();
}

function onUp(event) {
  if (map.start === null) return;
  const [start, end] = [map.start, place(event)];
  const touch = event.pointerType === "touch";
  map.start = null;
  if (!map.dragged) onTap(end, event.shiftKey, touch);
  else if (touch && decoder) moveTo(toCode(end), "Chosen on the map");
  else if (decoder) interpolate(sampleAt(start) ?? toCode(start), sampleAt(end) ?? toCode(end));
  map.dragged = false;
  if (touch) onLeave();
}

function onTap(at, shift, touch) {
  const found = sampleAt(at, shift ? Infinity : touch ? 2 * REACH : REACH);
  if (found !== null) select(found, shift);
  else if (decoder) moveTo(toCode(at), "Chosen on the map");
}

function onLeave() {
  Object.assign(map, { pointer: null, near: null });
  state.preview = null;
  update();
}

function onCancel() {
  map.start = null;
  map.dragged = false;
  onLeave();
}

function onMapKey(event) {
  const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowDown: [0, -1], ArrowUp: [0, 1] };
  const size = event.shiftKey ? 0.5 : 0.1;
  if (event.key in steps && decoder) {
    const code = state.code.slice();
    state.axes.forEach((axis, d) => {
      const moved = code[axis] + size * steps[event.key][d];
      code[axis] = Math.min(Math.max(moved, map.span[d][0]), map.span[d][1]);
    });
    state.path = null;
    moveTo(code, "Chosen on the map");
  } else if (event.key in steps) {
    const count = errors.length;
    const by = steps[event.key][0] + steps[event.key][1];
    select(((state.selected ?? -1) + by + count) % count);
  } else if (event.key === "Enter") {
    const at = toPixel(state.code);
    const found = decoder ? sampleAt(at, Infinity) : state.selected ?? 0;
    select(found, event.shiftKey);
  } else if (event.key.toLowerCase() === "i" && state.selected !== null) {
    const end = sampleAt(toPixel(state.code), Infinity);
    interpolate(state.selected, end === state.selected ? state.code : end);
  } else if (event.key === "Home") reset();
  else return;
  event.preventDefault();
}
