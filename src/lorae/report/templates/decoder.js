// Runs a decoder that lorae.report.browser_decoder has packed: one code in, one sample out.
// All arrays are flat, channels first, in float64, which V8 multiplies faster than float32; large
// products are computed in float32 by WebAssembly where the browser has its SIMD.

"use strict";

/** Return the bytes of a base64 text. */
function decodeBase64(text) {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

/** Return little-endian float32 values of a base64 text. */
function decodeFloats(text) {
  const view = new DataView(decodeBase64(text).buffer);
  return Float32Array.from({ length: view.byteLength / 4 }, (_, k) => view.getFloat32(4 * k, true));
}

/** Return little-endian float16 values of a base64 text. */
function decodeHalfs(text) {
  const view = new DataView(decodeBase64(text).buffer);
  const values = new Float32Array(view.byteLength / 2);
  for (let k = 0; k < values.length; k++) {
    const bits = view.getUint16(2 * k, true);
    const sign = bits & 0x8000 ? -1 : 1;
    const exponent = (bits >> 10) & 31;
    const fraction = bits & 1023;
    if (exponent === 31) values[k] = fraction ? NaN : sign * Infinity;
    else values[k] = exponent
      ? sign * 2 ** (exponent - 15) * (1 + fraction / 1024)
      : sign * 2 ** -14 * (fraction / 1024);
  }
  return values;
}

/** A decoder; `run` returns an array that the next call overwrites. */
class Decoder {
  constructor({ layers, weights, half }) {
    const values = half ? decodeHalfs(weights) : decodeFloats(weights);
    this.layers = layers.map((layer) => makeLayer(layer, values));
  }

  run(code) {
    return this.layers.reduce((x, layer) => layer(x), Float64Array.from(code));
  }
}

function makeLayer(spec, weights) {
  const part = (offset, length) => Float64Array.from(weights.subarray(offset, offset + length));
  switch (spec.kind) {
    case "linear":
      return linear(spec, part);
    case "convolution":
      return convolution(spec, part);
    case "transposed":
      return transposed(spec, part);
    case "affine":
      return affine(spec, part);
    case "correction": {
      const layers = spec.layers.map((layer) => makeLayer(layer, weights));
      return (x) => {
        const y = layers.reduce((v, layer) => layer(v), x.slice(spec.values));
        return y.map((value, k) => value + x[k]);
      };
    }
    case "softmax":
      return softmax(spec);
    default:
      return activation(spec);
  }
}

function activation({ kind, slope }) {
  const map = {
    relu: (v) => (v > 0 ? v : 0),
    leaky_relu: (v) => (v > 0 ? v : slope * v),
    sigmoid: (v) => 1 / (1 + Math.exp(-v)),
    tanh: Math.tanh,
    elu: (v) => (v > 0 ? v : slope * Math.expm1(v)),
    silu: (v) => v / (1 + Math.exp(-v)),
    gelu: (v) => (v * (1 + erf(v / Math.SQRT2))) / 2,
    softplus: (v) => (v > 20 ? v : Math.log1p(Math.exp(v))),
  }[kind];
  return (x) => {
    for (let k = 0; k < x.length; k++) x[k] = map(x[k]);
    return x;
  };
}

// Abramowitz and Stegun, formula 7.1.26: the error is below 1.5e-7.
function erf(x) {
  const t = 1 / (1 + 0.3275911 * Math.abs(x));
  const series =
    t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
  return Math.sign(x) * (1 - series * Math.exp(-x * x));
}

function affine({ channels, values, weight, bias }, part) {
  const factor = part(weight, channels);
  const offset = part(bias, channels);
  return (x) => {
    for (let c = 0, k = 0; c < channels; c++)
      for (const end = k + values; k < end; k++) x[k] = factor[c] * x[k] + offset[c];
    return x;
  };
}

/** Probabilities of groups of values from the start on. */
function softmax({ start, sizes }) {
  return (x) => {
    let end = start;
    for (const size of sizes) {
      const part = x.subarray(end, (end += size));
      const top = Math.max(...part);
      let sum = 0;
      for (let k = 0; k < size; k++) sum += part[k] = Math.exp(part[k] - top);
      for (let k = 0; k < size; k++) part[k] /= sum;
    }
    return x;
  };
}

function linear({ inputs, outputs, weight, bias }, part) {
  const W = part(weight, inputs * outputs);
  const b = part(bias, outputs);
  const y = new Float64Array(outputs);
  return (x) => {
    for (let o = 0, w = 0; o < outputs; o++) {
      let sum = b[o];
      for (let i = 0; i < inputs; i++, w++) sum += W[w] * x[i];
      y[o] = sum;
    }
    return y;
  };
}

/** y = W x as columns: W (outputs × channels) times the patch of each output position. */
function convolution(spec, part) {
  const { inputs, outputs, size, outputSize, kernel } = spec;
  const K = inputs * product(kernel);
  const N = product(outputSize);
  const multiply = makeProduct(part(spec.weight, outputs * K), outputs, K, N);
  const b = part(spec.bias, outputs);
  const index = patchIndex(spec, outputSize, size, N); // position in a channel, or -1 for padding
  const patches = new Float64Array(K * N);
  const volume = product(size);
  const taps = product(kernel);
  return (x) => {
    for (let i = 0, p = 0; i < inputs; i++)
      for (let t = 0; t < taps * N; t++, p++)
        patches[p] = index[t] < 0 ? 0 : x[i * volume + index[t]];
    const y = multiply(patches);
    for (let o = 0, k = 0; o < outputs; o++) for (let n = 0; n < N; n++, k++) y[k] += b[o];
    return y;
  };
}

/** The transpose of a convolution: products first, then sums over the overlaps. */
function transposed(spec, part) {
  const { inputs, outputs, size, outputSize, kernel } = spec;
  const taps = product(kernel);
  const N = product(size);
  const multiply = makeProduct(part(spec.weight, outputs * taps * inputs), outputs * taps, inputs, N);
  const b = part(spec.bias, outputs);
  const index = patchIndex(spec, size, outputSize, N);
  const volume = product(outputSize);
  const y = new Float64Array(outputs * volume);
  return (x) => {
    const columns = multiply(x);
    for (let o = 0, p = 0; o < outputs; o++) {
      const start = o * volume;
      y.fill(b[o], start, start + volume);
      for (let t = 0; t < taps * N; t++, p++)
        if (index[t] >= 0) y[start + index[t]] += columns[p];
    }
    return y;
  };
}

/**
 * For each kernel position and each of the N positions on the coarse grid, the position on the fine
 * grid that they meet: stride · coarse − padding + dilation · kernel; −1 outside.
 */
function patchIndex({ kernel, stride, padding, dilation }, coarse, fine, N) {
  const index = new Int32Array(product(kernel) * N);
  let t = 0;
  for (let a = 0; a < kernel[0]; a++)
    for (let b = 0; b < kernel[1]; b++)
      for (let c = 0; c < kernel[2]; c++)
        for (let i = 0; i < coarse[0]; i++)
          for (let j = 0; j < coarse[1]; j++)
            for (let k = 0; k < coarse[2]; k++) {
              const at = [i, j, k].map(
                (v, d) => v * stride[d] - padding[d] + dilation[d] * [a, b, c][d],
              );
              const inside = at.every((v, d) => v >= 0 && v < fine[d]);
              index[t++] = inside ? (at[0] * fine[1] + at[1]) * fine[2] + at[2] : -1;
            }
  return index;
}

function product(numbers) {
  return numbers.reduce((a, b) => a * b, 1);
}

/** Return a function x → A x for a matrix A (M × K) and x (K × N), both by rows. */
function makeProduct(A, M, K, N) {
  return SIMD && N % 8 === 0 ? vectorProduct(A, M, K, N) : scalarProduct(A, M, K, N);
}

/** Return A with its rows padded to a multiple of 4, and every four of them interleaved. */
function interleaveRows(A, M, K, packed) {
  for (let m = 0; m < M; m++)
    for (let k = 0; k < K; k++) packed[(m - (m % 4)) * K + 4 * k + (m % 4)] = A[m * K + k];
}

/** Blocks of 4 × 8 entries in float32, eight columns of x interleaved at a time. */
function vectorProduct(A, M, K, N) {
  const rows = Math.ceil(M / 4) * 4;
  const sizes = [rows * K, 8 * K, rows * N];
  const bytes = 4 * sizes.reduce((a, b) => a + b);
  const memory = new WebAssembly.Memory({ initial: Math.ceil(bytes / 65536) });
  const { multiply } = new WebAssembly.Instance(SIMD, { js: { memory } }).exports;
  const [packed, panel, y] = sizes.map((size, k) => {
    const start = 4 * sizes.slice(0, k).reduce((a, b) => a + b, 0);
    return new Float32Array(memory.buffer, start, size);
  });
  interleaveRows(A, M, K, packed);
  return (x) => {
    for (let n = 0; n < N; n += 8) {
      for (let k = 0; k < K; k++)
        for (let j = 0, at = k * N + n; j < 8; j++) panel[8 * k + j] = x[at + j];
      for (let m = 0; m < rows; m += 4)
        multiply(4 * m * K, panel.byteOffset, panel.byteOffset + 32 * K, y.byteOffset + 4 * (m * N + n), 4 * N);
    }
    return y.length === M * N ? y : y.subarray(0, M * N);
  };
}

/**
 * A WebAssembly module with the product of four interleaved rows and eight interleaved columns,
 * multiply(rows, columns, end of the columns, result, bytes between rows of the result); null where
 * the browser has no SIMD.
 */
const SIMD = (() => {
  const unsigned = (n) => (n < 128 ? [n] : [(n & 127) | 128, ...unsigned(n >> 7)]);
  const section = (id, bytes) => [id, ...unsigned(bytes.length), ...bytes];
  const name = (text) => [text.length, ...new TextEncoder().encode(text)];
  const get = (local) => [0x20, local];
  const set = (local) => [0x21, local];
  const advance = (local, by) => [...get(local), ...by, 0x6a, ...set(local)]; // i32.add
  const constant = (value) => [0x41, value];
  const at = (offset) => [2, offset]; // alignment 4 bytes
  const [load, splat, store] = [0x00, 0x09, 0x0b].map((code) => [0xfd, code]); // of v128
  const [add, mul] = [0xe4, 0xe6].map((code) => [0xfd, code, 1]); // of f32x4
  const [row, column, end, result, stride, sums, left, right, weight] = [0, 1, 2, 3, 4, 5, 13, 14, 15];
  const four = [0, 1, 2, 3];
  const accumulate = (sum, x) => [...get(sum), ...get(weight), ...get(x), ...mul, ...add, ...set(sum)];
  const body = [
    ...[1, 11, 0x7b], // eleven locals of v128
    ...[0x03, 0x40], // loop over the inner dimension
    ...[...get(column), ...load, ...at(0), ...set(left)],
    ...[...get(column), ...load, ...at(16), ...set(right)],
    ...four.flatMap((i) => [
      ...[...get(row), ...splat, ...at(4 * i), ...set(weight)],
      ...accumulate(sums + 2 * i, left),
      ...accumulate(sums + 2 * i + 1, right),
    ]),
    ...advance(row, constant(16)),
    ...advance(column, constant(32)),
    ...[...get(column), ...get(end), 0x49, 0x0d, 0, 0x0b], // br_if column < end; end of the loop
    ...four.flatMap((i) => [
      ...[...get(result), ...get(sums + 2 * i), ...store, ...at(0)],
      ...[...get(result), ...get(sums + 2 * i + 1), ...store, ...at(16)],
      ...advance(result, get(stride)),
    ]),
    0x0b,
  ];
  const bytes = [
    ...[0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...section(1, [1, 0x60, 5, 0x7f, 0x7f, 0x7f, 0x7f, 0x7f, 0]), // (i32 × 5) → ()
    ...section(2, [1, ...name("js"), ...name("memory"), 2, 0, 1]),
    ...section(3, [1, 0]),
    ...section(7, [1, ...name("multiply"), 0, 0]),
    ...section(10, [1, ...unsigned(body.length), ...body]),
  ];
  try {
    return new WebAssembly.Module(Uint8Array.from(bytes));
  } catch {
    return null;
  }
})();

/** Blocks of 4 × 4 entries that stay in registers; the last columns may be fewer. */
function scalarProduct(A, M, K, N) {
  const rows = Math.ceil(M / 4) * 4;
  const packed = new Float64Array(rows * K);
  interleaveRows(A, M, K, packed);
  const panel = new Float64Array(4 * K); // four columns interleaved
  const y = new Float64Array(rows * N);
  return (x) => {
    for (let n = 0; n < N; n += 4) {
      const columns = Math.min(4, N - n);
      for (let k = 0; k < K; k++)
        for (let j = 0; j < columns; j++) panel[4 * k + j] = x[k * N + n + j];
      for (let m = 0; m < rows; m += 4) multiplyBlock(packed, m * K, panel, K, y, m * N + n, N, columns);
    }
    return y.length === M * N ? y : y.subarray(0, M * N);
  };
}

function multiplyBlock(A, a, P, K, y, at, N, columns) {
  let c00 = 0, c01 = 0, c02 = 0, c03 = 0;
  let c10 = 0, c11 = 0, c12 = 0, c13 = 0;
  let c20 = 0, c21 = 0, c22 = 0, c23 = 0;
  let c30 = 0, c31 = 0, c32 = 0, c33 = 0;
  for (let k = 0; k < 4 * K; k += 4, a += 4) {
    const p0 = P[k], p1 = P[k + 1], p2 = P[k + 2], p3 = P[k + 3];
    let w = A[a];
    c00 += w * p0; c01 += w * p1; c02 += w * p2; c03 += w * p3;
    w = A[a + 1];
    c10 += w * p0; c11 += w * p1; c12 += w * p2; c13 += w * p3;
    w = A[a + 2];
    c20 += w * p0; c21 += w * p1; c22 += w * p2; c23 += w * p3;
    w = A[a + 3];
    c30 += w * p0; c31 += w * p1; c32 += w * p2; c33 += w * p3;
  }
  if (columns === 4) {
    y[at] = c00; y[at + 1] = c01; y[at + 2] = c02; y[at + 3] = c03; at += N;
    y[at] = c10; y[at + 1] = c11; y[at + 2] = c12; y[at + 3] = c13; at += N;
    y[at] = c20; y[at + 1] = c21; y[at + 2] = c22; y[at + 3] = c23; at += N;
    y[at] = c30; y[at + 1] = c31; y[at + 2] = c32; y[at + 3] = c33;
    return;
  }
  const block = [c00, c01, c02, c03, c10, c11, c12, c13, c20, c21, c22, c23, c30, c31, c32, c33];
  for (let i = 0; i < 4; i++) for (let j = 0; j < columns; j++) y[at + i * N + j] = block[4 * i + j];
}
