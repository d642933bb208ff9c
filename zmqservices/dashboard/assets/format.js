// How numbers, times and states are written. Pure.

export const STATES = {
  up: {sign: "■", text: "up", rank: 7},
  starting: {sign: "◌", text: "starting", rank: 5},
  draining: {sign: "◧", text: "draining", rank: 4},
  ejected: {sign: "◆", text: "ejected", rank: 3},
  suspect: {sign: "▲", text: "suspect", rank: 2},
  silent: {sign: "▲", text: "no answer", rank: 1},
  lost: {sign: "✕", text: "lost", rank: 0},
  left: {sign: "□", text: "left", rank: 6},
};

// Seconds from which on a call that still runs is pointed out.
export const LONG = 1;

export function stateOf(name) {
  return STATES[name] || {sign: "?", text: String(name), rank: 1};
}

export function rate(value) {
  if (!value) return "0/s";
  if (value >= 1000) return `${(value / 1000).toFixed(value >= 10000 ? 0 : 1)}k/s`;
  return `${value.toFixed(value >= 9.95 ? 0 : value >= 0.995 ? 1 : 2)}/s`;
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds >= 9.95) return `${seconds.toFixed(0)} s`;
  if (seconds >= 1) return `${seconds.toFixed(1)} s`;
  const ms = seconds * 1000;
  if (ms >= 10) return `${ms.toFixed(0)} ms`;
  if (ms >= 1) return `${ms.toFixed(1)} ms`;
  return `${(ms * 1000).toFixed(0)} µs`;
}

export function age(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 1) return "now";
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 129600) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} d`;
}

export function clock(at) {
  const time = new Date(at * 1000);
  return [time.getHours(), time.getMinutes(), time.getSeconds()].map((part) => String(part).padStart(2, "0")).join(":");
}

export function count(number) {
  return Number(number).toLocaleString("en");
}

export function cut(text, length) {
  text = String(text);
  return text.length > length ? `${text.slice(0, length - 1)}…` : text;
}

// Texts in one line of at most so many characters: the first ones are shortened, as many as is needed.
export function fitting(parts, length) {
  for (let shortened = 0; ; shortened++) {
    const line = parts.map((one, index) => index < shortened ? one.short : one.text).join(" · ");
    if (line.length <= length || shortened >= parts.length) return cut(line, length);
  }
}

export function sum(values) {
  let total = 0;
  for (const value of values) total += value;
  return total;
}

export function shortType(name) {
  return String(name).split(".").pop();
}
