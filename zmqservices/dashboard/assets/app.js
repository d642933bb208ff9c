// Reads the stream of pictures, and shows the newest one.

import {h, text} from "./dom.js";
import * as show from "./format.js";
import {ServiceMap} from "./map.js";
import {Panel} from "./panel.js";
import {drawTable} from "./table.js";
import {drawTimeline} from "./timeline.js";

const find = (id) => document.getElementById(id);
const state = {picture: null, timeline: [], operate: false, heardAt: 0, view: matchMedia("(max-width: 719px)").matches ? "table" : "map", isDrawing: false};

const panel = new Panel(find("panel"), () => state, open);
const map = new ServiceMap(document.querySelector("#map svg"), open);

function open(what) {
  panel.open(what, document.activeElement);
}

// --- the stream ---

function listen() {
  const source = new EventSource("api/stream");
  source.addEventListener("hello", (event) => { state.operate = JSON.parse(event.data).operate; });
  source.addEventListener("timeline", (event) => { state.timeline = JSON.parse(event.data); });
  source.onmessage = (event) => {
    state.picture = JSON.parse(event.data);
    state.heardAt = performance.now();
    drawSoon();
  };
  source.onerror = () => {
    drawLive();
    // When a server refuses a stream, a browser does not try again by itself.
    if (source.readyState === EventSource.CLOSED) setTimeout(listen, 2000);
  };
}

function drawSoon() {
  if (state.isDrawing) return;
  state.isDrawing = true;
  requestAnimationFrame(() => {
    state.isDrawing = false;
    draw();
  });
}

function draw() {
  const picture = state.picture;
  if (!picture) return;
  text(find("namespace"), picture.namespace === "default" ? "zmqservices" : picture.namespace);
  document.querySelector(".empty").hidden = picture.services.length > 0;
  drawLive();
  drawTotals(picture);
  drawProblem(picture);
  if (state.view === "map") map.draw(picture);
  else drawTable(find("table"), picture, open, find("find").value);
  drawTimeline(find("timeline"), state.timeline, picture, open);
  panel.refresh();
  document.body.dataset.pictures = String(Number(document.body.dataset.pictures || 0) + 1);
}

function drawLive() {
  const silent = (performance.now() - state.heardAt) / 1000;
  const isLive = state.picture !== null && silent < 4;
  const box = find("live");
  box.className = isLive ? "live" : "stale";
  text(box.querySelector(".glyph"), isLive ? "●" : "○");
  text(box.querySelector(".text"), isLive ? "live" : state.picture ? `no update for ${show.age(silent)}` : "connecting");
  document.body.classList.toggle("is-stale", !isLive && state.picture !== null);
}

function drawTotals(picture) {
  const services = picture.services.filter((one) => one.kind === "service");
  const instances = services.flatMap((one) => one.instances);
  const up = instances.filter((one) => one.state === "up").length;
  const totals = [
    ["services", show.count(services.length), false],
    ["instances up", up === instances.length ? show.count(up) : `${show.count(up)} of ${show.count(instances.length)}`, up !== instances.length],
    ["handled", show.rate(show.sum(services.map((one) => one.rate))), false],
    ["errors", show.rate(show.sum(services.map((one) => one.errors))), services.some((one) => one.errors > 0)],
    ["waiting", show.count(show.sum(picture.events.map((one) => one.waiting))), false],
    ["dead letters", show.count(show.sum(picture.events.map((one) => one.dead_letters))), picture.events.some((one) => one.dead_letters > 0)],
  ];
  const box = find("totals");
  if (!box.children.length) {
    for (const [name] of totals) box.append(h("div", {}, h("dt", {}, name), h("dd")));
  }
  totals.forEach(([, value, isBad], index) => {
    const cell = box.children[index];
    text(cell.querySelector("dd"), value);
    cell.classList.toggle("bad", isBad);
  });
}

function drawProblem(picture) {
  const told = [];
  if (!picture.directory.fresh) told.push(`The directory is not up to date: ${picture.directory.text}`);
  for (const one of picture.problems.slice(0, 3)) told.push(`${one.services.join(", ")} at ${one.address}: ${show.cut(one.problem, 160)}`);
  if (picture.left_out) told.push(`${show.count(picture.left_out)} more instances are listed than this page shows`);
  if (picture.problems.length > 3) told.push(`and ${picture.problems.length - 3} more nodes do not answer`);
  find("problem").hidden = told.length === 0;
  text(find("problem"), told.join("  •  "));
}

// --- the tools ---

function setView(view) {
  state.view = view;
  find("map").hidden = view !== "map";
  document.querySelector(".zoom").hidden = view !== "map";
  find("table").hidden = view !== "table";
  find("as-map").setAttribute("aria-pressed", String(view === "map"));
  find("as-table").setAttribute("aria-pressed", String(view === "table"));
  draw();
  if (view === "map") map.fit();
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  try {
    localStorage.setItem("theme", theme);
  } catch {
    // Without storage, the theme is valid until the page is closed.
  }
}

function storedTheme() {
  try {
    return localStorage.getItem("theme");
  } catch {
    return null;
  }
}

function toggleHelp() {
  const isHidden = !find("legend").hidden;
  find("legend").hidden = isHidden;
  find("help").setAttribute("aria-expanded", String(!isHidden));
}

function fillLegend() {
  const keys = [
    ["Tab", "the next service or edge"], ["← ↑ → ↓", "a neighbour"], ["Enter", "open it"], ["Esc", "close"], ["/", "find"],
    ["m, t", "map, table"], ["+ − 0", "zoom"], ["?", "show or hide this help"],
  ];
  find("legend").append(
    h("ul", {class: "states"}, Object.entries(show.STATES).map(([name, one]) => h("li", {class: `state ${name}`}, h("span", {class: "sign", "aria-hidden": "true"}, one.sign), one.text))),
    h("ul", {}, h("li", {}, h("span", {class: "swatch call"}), "calls: rate, p99"), h("li", {}, h("span", {class: "swatch event"}), "✉ events: rate, waiting, ▲ dead letters"), h("li", {}, h("span", {class: "swatch bad"}), "▲ with errors")),
    h("ul", {class: "keys"}, keys.map(([key, what]) => h("li", {}, h("kbd", {}, key), what))),
    h("p", {}, "Rates and quantiles (p99) cover the last 10 seconds."),
  );
}

find("as-map").addEventListener("click", () => setView("map"));
find("as-table").addEventListener("click", () => setView("table"));
find("theme").addEventListener("click", () => {
  const isDark = (document.documentElement.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  setTheme(isDark ? "light" : "dark");
});
find("help").addEventListener("click", toggleHelp);
find("zoom-in").addEventListener("click", () => map.zoom(1.25));
find("zoom-out").addEventListener("click", () => map.zoom(0.8));
find("zoom-fit").addEventListener("click", () => map.fitAgain());
find("find").addEventListener("input", () => {
  const first = map.find(find("find").value);
  if (first && state.view === "map") first.scrollIntoView({block: "nearest", inline: "nearest"});
  if (state.view === "table") draw();
});
find("find").addEventListener("keydown", (event) => {
  const first = map.find(find("find").value);
  if (event.key === "Enter" && first && state.view === "map") first.focus();
});
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape") {
    if (!find("legend").hidden) toggleHelp();
    else if (panel.isOpen) panel.close();
    else if (document.activeElement === find("find")) find("find").blur();
    return;
  }
  if (event.target.closest("input, textarea, select")) return;
  const actions = {
    "/": () => find("find").focus(), "?": toggleHelp, m: () => setView("map"), t: () => setView("table"),
    "+": () => map.zoom(1.25), "-": () => map.zoom(0.8), 0: () => map.fitAgain(),
  };
  if (actions[event.key]) {
    event.preventDefault();
    actions[event.key]();
  }
});
new ResizeObserver(() => map.fit()).observe(find("map"));
setInterval(drawLive, 1000);

const theme = storedTheme();
if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
fillLegend();
setView(state.view);
listen();
