// Samples of the explorer: how they are read, and painted.

"use strict";

const $ = (id) => document.getElementById(id);
const data = JSON.parse($("data").textContent);
const view = data.view;

// Numbers as text

const percent = (share) => (share > 0 && share < 1e-4 ? "< 0.01 %" : `${format(100 * share)} %`);
const isNumber = (text) => text !== "" && Number.isFinite(Number(text));
const signed = (value) => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(2);

function format(value) {
  if (!Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-4 || size >= 1e6)) return value.toExponential(1).replace("-", "−");
  return String(Number(value.toPrecision(3))).replace("-", "−");
}

/** Return a value with as many decimals as a hundredth of the span of its column has. */
function formatWithin(value, span) {
  const decimals = Math.max(0, Math.ceil(2 - Math.log10(span)));
  if (!Number.isFinite(value) || !(decimals <= 8)) return format(value);
  return value.toFixed(decimals).replace(/^-(?=[0.]*$)/, "").replace("-", "−");
}

/** Return a new element with attributes, and children or text. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function style(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

// Colours

const dark = matchMedia("(prefers-color-scheme: dark)");
const VIRIDIS = [[68, 1, 84], [71, 44, 122], [59, 81, 139], [44, 113, 142], [33, 144, 141],
  [39, 173, 129], [92, 200, 99], [170, 220, 50], [253, 231, 37]];
const DIVERGING = [[33, 76, 145], [83, 134, 190], [150, 189, 219], [212, 226, 237], [245, 244, 242],
  [246, 216, 199], [231, 158, 128], [203, 92, 74], [149, 31, 47]];

function mix(palette, t) {
  const at = Math.min(Math.max(t, 0), 1) * (palette.length - 1);
  const k = Math.min(Math.floor(at), palette.length - 2);
  return palette[k].map((low, c) => low + (at - k) * (palette[k + 1][c] - low));
}

/** Return a sequential colour that stands out from the page. */
function ramp(t) {
  return `rgb(${mix(VIRIDIS, dark.matches ? 0.25 + 0.75 * t : 0.92 * t).map(Math.round)})`;
}

// Samples, as flat arrays of what is shown

/** Return a function from the number of a sample to its values. */
async function unpack({ sheet, columns, floats, half }) {
  if (floats !== undefined) {
    const values = half ? decodeHalfs(floats) : decodeFloats(floats);
    const { channels, plane, slice } = view;
    const area = view.width * view.height;
    const size = view.kind === "table" ? view.columns.length : channels * area;
    if (area === plane) return (k) => values.subarray(k * size, (k + 1) * size);
    return (k) => { // of a volume, only the slice that is shown is stored
      const whole = new Float32Array(channels * plane);
      for (let c = 0; c < channels; c++)
        whole.set(values.subarray(k * size + c * area, k * size + (c + 1) * area), c * plane + slice);
      return whole;
    };
  }
  const image = new Image();
  image.src = sheet;
  await image.decode();
  const canvas = new OffscreenCanvas(image.width, image.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  const { width, height, channels } = view;
  return (k) => {
    const [left, top] = [(k % columns) * width, Math.floor(k / columns) * height];
    const pixels = context.getImageData(left, top, width, height).data;
    const values = new Float32Array(channels * width * height);
    for (let c = 0, j = 0; c < channels; c++)
      for (let p = 0; p < width * height; p++, j++) values[j] = pixels[4 * p + c] / 255;
    return values;
  };
}

// Pictures of samples: one function for each kind of view, which paints values on a canvas

const painters = {
  image(canvas, values) {
    const { width, height, channels } = view;
    const pixels = prepare(canvas, width, height);
    const step = channels === 3 ? width * height : 0;
    for (let p = 0; p < width * height; p++) {
      for (let c = 0; c < 3; c++) pixels.data[4 * p + c] = Math.round(255 * values[p + c * step]);
      pixels.data[4 * p + 3] = 255;
    }
    canvas.getContext("2d").putImageData(pixels, 0, 0);
  },

  field(canvas, values) {
    const { width, height, channels, plane, slice } = view;
    const { across, gap, whole } = arrangePlanes();
    const pixels = prepare(canvas, ...whole);
    for (let c = 0; c < channels; c++) {
      const { palette, bottom, top } = coloursOf(c);
      const [left, down] = [(c % across) * (width + gap), Math.floor(c / across) * (height + gap)];
      for (let p = 0; p < width * height; p++) {
        const t = (values[c * plane + slice + p] - bottom) / (top - bottom || 1);
        if (Number.isNaN(t)) continue; // a gap stays transparent
        const at = 4 * ((down + Math.floor(p / width)) * whole[0] + left + (p % width));
        pixels.data.set(mix(palette, t), at);
        pixels.data[at + 3] = 255;
      }
    }
    canvas.getContext("2d").putImageData(pixels, 0, 0);
  },

  signal(canvas, values, other = null) {
    const { context, width, height } = sharpen(canvas);
    context.lineWidth = width > 150 ? 1.75 : 1.25;
    context.lineJoin = "round";
    const margin = 3;
    for (const [series, faint] of [[other, true], [values, false]]) {
      if (series === null) continue;
      for (let c = 0; c < view.channels; c++) {
        context.strokeStyle = faint ? style("--muted") : style(`--c${c % 10}`);
        context.globalAlpha = faint ? 0.55 : 1;
        context.beginPath();
        for (let k = 0, gap = true; k < view.width; k++) {
          const t = (series[c * view.plane + k] - view.low[c]) / (view.high[c] - view.low[c] || 1);
          const x = margin + (k / Math.max(1, view.width - 1)) * (width - 2 * margin);
          const y = height - margin - t * (height - 2 * margin);
          if (gap) context.moveTo(x, y);
          else context.lineTo(x, y);
          gap = Number.isNaN(t);
        }
        context.stroke();
      }
    }
    context.globalAlpha = 1;
    if (width < 150 || view.channels > 1) return; // several channels have a legend
    context.fillStyle = style("--muted");
    context.font = `12px ${getComputedStyle(document.body).fontFamily}`;
    context.fillText(format(view.high[0]), 5, 14);
    context.fillText(format(view.low[0]), 5, height - 6);
  },
};
const paint = painters[view.kind]; // a table has none: its columns are HTML

/** Return how the planes of a field share a picture: how many in a row, their gap, and its size. */
function arrangePlanes() {
  const { width, height, channels } = view;
  const gap = channels > 1 ? Math.max(1, Math.round(width / 16)) : 0;
  const sizeOf = (across) =>
    [across * (width + gap) - gap, Math.ceil(channels / across) * (height + gap) - gap];
  const far = (across) => Math.abs(Math.log(sizeOf(across)[0] / sizeOf(across)[1] / 0.8));
  let across = 1;
  for (let k = 2; k <= channels; k++) if (far(k) < far(across)) across = k;
  return { across, gap, whole: sizeOf(across) };
}

/** Return the colours of a plane of a field, and the values of the first and the last. */
function coloursOf(c) {
  const [low, high] = [view.low[c], view.high[c]];
  const size = Math.max(-low, high);
  if (low < 0 && high > 0) return { palette: DIVERGING, bottom: -size, top: size };
  return { palette: VIRIDIS, bottom: low, top: high };
}

/** Return width over height of a sample. */
function aspect() {
  if (view.kind === "signal") return 1.6;
  const [width, height] = view.kind === "field" ? arrangePlanes().whole : [view.width, view.height];
  return width / height;
}

/** Name the channels of signals and fields beside their colours and ranges. */
function makeChannels(list) {
  if (view.kind !== "field" && !(view.kind === "signal" && view.channels > 1)) return;
  for (let c = 0; c < view.channels; c++) {
    const name = view.channels > 1 ? `Channel ${c + 1}` : "Values";
    if (view.kind === "signal") {
      const swatch = make("span", { class: "swatch" });
      swatch.style.background = `var(--c${c % 10})`;
      list.append(make("li", {}, swatch, `${name}, ${format(view.low[c])} to ${format(view.high[c])}`));
      continue;
    }
    const { palette, bottom, top } = coloursOf(c);
    const bar = make("span", { class: "gradient" });
    bar.style.background = `linear-gradient(90deg, ${palette.map((colour) => `rgb(${colour})`).join(", ")})`;
    list.append(make("li", {}, name, make("span", { class: "n" }, format(bottom)), bar,
      make("span", { class: "n" }, format(top))));
  }
}

/** Set the size of a canvas, and return its pixels to be filled. */
function prepare(canvas, width, height) {
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
  }
  return canvas.getContext("2d").createImageData(width, height);
}

/** Give a canvas the resolution of the screen, clear it, and return its context and size. */
function sharpen(canvas) {
  const ratio = window.devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth || 64, canvas.clientHeight || 64];
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  return { context, width, height };
}

function picture(label) {
  const canvas = make("canvas", { class: `picture ${view.kind}` });
  if (label) {
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", label);
  } else canvas.setAttribute("aria-hidden", "true");
  return canvas;
}

// Tables

/** Return the name of a column, which may break where words end. */
function columnName(k) {
  return view.columns[k].replace(/([_/.=-])/g, "$1\u200b");
}

/** Return the place of a value in the range of its column, from 0 to 1. */
function placeInColumn(k, value) {
  const t = (value - view.low[k]) / (view.high[k] - view.low[k] || 1);
  return Math.min(Math.max(t, 0), 1);
}

function formatColumn(k, value) {
  return formatWithin(value, view.high[k] - view.low[k]);
}

/** Return the columns for which a number is largest, as numbers of columns. */
function largestColumns(count, sizeOf) {
  const sizes = view.columns.map((_, k) => sizeOf(k) / (view.high[k] - view.low[k] || 1) || 0);
  return [...sizes.keys()].sort((a, b) => sizes[b] - sizes[a]).slice(0, count);
}

/** Show the columns that change most over the samples of a filmstrip, a row for each. */
function paintEffects(body, frames) {
  const range = (k) => {
    const values = frames.map((values) => values[k]);
    return Math.max(...values) - Math.min(...values);
  };
  const rows = largestColumns(4, range).map((k) => {
    const cells = frames.map((values) => {
      const cell = make("td", { class: "n" }, formatColumn(k, values[k]));
      cell.style.setProperty("--place", `${100 * placeInColumn(k, values[k])}%`);
      return cell;
    });
    return make("tr", {}, make("th", { scope: "row" }, columnName(k)), ...cells);
  });
  body.replaceChildren(...rows);
}

/** Return the columns in which a sample and its reconstruction differ most, with both values. */
function describeErrors(sample, decoded) {
  return largestColumns(3, (k) => Math.abs(sample[k] - decoded[k])).map((k) =>
    make("span", { class: "change" }, make("span", {}, columnName(k)), make("span", { class: "n" },
      `${formatColumn(k, sample[k])} → ${formatColumn(k, decoded[k])}`)));
}

/** The columns of a table: name, bar from the mean, value, and the values of other samples. */
class ColumnTable {
  constructor(element) {
    this.headers = element.querySelectorAll("thead .other");
    this.rows = view.columns.map((_, k) => {
      const bar = make("span", { class: "bar" });
      const mark = make("span", { class: "mark", hidden: "" });
      const middle = make("span", { class: "middle" });
      middle.style.left = `${100 * placeInColumn(k, view.mean[k])}%`;
      const track = make("span", { class: "track" }, middle, bar, mark);
      const value = make("td", { class: "n" });
      const others = [make("td", { class: "n other" }), make("td", { class: "n other near" })];
      const row = make("tr", {}, make("th", { scope: "row" }, columnName(k)), make("td", {}, track), value, ...others);
      element.tBodies[0].append(row);
      return { bar, mark, value, others };
    });
  }

  /** Show a decoded sample and two references, whose values may be null. */
  paint(values, references) {
    references.forEach((found, r) => {
      this.headers[r].textContent = found.values === null ? "" : found.header;
    });
    const first = references[0].values;
    this.rows.forEach(({ bar, mark, value, others }, k) => {
      const [from, to] = [placeInColumn(k, view.mean[k]), placeInColumn(k, values[k])];
      bar.style.left = `${100 * Math.min(from, to)}%`;
      bar.style.width = `${100 * Math.abs(to - from)}%`;
      value.textContent = formatColumn(k, values[k]);
      references.forEach((found, r) => {
        others[r].textContent = found.values === null ? "" : formatColumn(k, found.values[k]);
      });
      mark.hidden = first === null || Number.isNaN(first[k]);
      if (!mark.hidden) mark.style.left = `${100 * placeInColumn(k, first[k])}%`;
    });
  }
}
