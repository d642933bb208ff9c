// Draws the map: cards of services, and edges between them. Elements are kept, and only what has changed is set.

import {attribute, s, text} from "./dom.js";
import {CARD, layout, markGrid} from "./layout.js";
import * as show from "./format.js";

const POINTS = 60;
// The most characters of the warnings on a card.
const WARNING = 29;

export class ServiceMap {
  constructor(svg, open) {
    this.svg = svg;
    this.open = open;
    this.cards = new Map();
    this.lines = new Map();
    this.history = new Map();
    this.scale = null;
    this.signature = "";
    this.edgeLayer = s("g", {class: "edges"});
    this.cardLayer = s("g", {class: "cards"});
    this.labelLayer = s("g", {class: "labels", "aria-hidden": "true"});
    svg.append(
      s("defs", {}, marker("arrow"), marker("arrow-event"), marker("arrow-bad")), this.edgeLayer, this.labelLayer, this.cardLayer,
    );
    svg.addEventListener("keydown", (event) => this.step(event));
  }

  draw(picture) {
    const edges = edgesOf(picture);
    const signature = JSON.stringify([picture.services.map((one) => [one.name, one.instances.length]), edges.map((one) => one.key)]);
    if (signature !== this.signature) {
      this.signature = signature;
      this.places = layout(picture.services, edges);
      this.fit();
    }
    this.drawEdges(edges);
    this.drawCards(picture.services);
  }

  // --- cards ---

  drawCards(services) {
    const wanted = new Set(services.map((one) => one.name));
    for (const [name, card] of this.cards) {
      if (!wanted.has(name)) {
        card.root.remove();
        this.cards.delete(name);
        this.history.delete(name);
      }
    }
    for (const service of services) {
      let card = this.cards.get(service.name);
      if (!card) this.cards.set(service.name, card = this.newCard(service));
      this.drawCard(card, service);
    }
    // Tab follows the reading order of the map.
    const sorted = [...services].sort((a, b) => {
      const one = this.places.boxes.get(a.name), other = this.places.boxes.get(b.name);
      return one.x - other.x || one.y - other.y;
    });
    const order = sorted.map((one) => one.name).join("\n");
    if (order !== this.order && !this.cardLayer.contains(document.activeElement)) {
      this.order = order;
      for (const service of sorted) this.cardLayer.append(this.cards.get(service.name).root);
    }
  }

  newCard(service) {
    const parts = {
      box: s("rect", {class: "box", rx: 8, width: CARD.width}),
      name: s("text", {class: "name", x: 12, y: 22}),
      numbers: s("text", {class: "numbers", x: 12, y: 41}),
      warn: s("text", {class: "warn", x: 12, y: 57}),
      spark: s("polyline", {class: "spark"}),
      marks: s("g", {class: "marks"}),
    };
    const root = s("g", {
      class: `card ${service.kind}`, tabindex: 0, role: "button",
      onclick: (event) => this.open(event.target.dataset.instance
        ? {kind: "instance", service: service.name, instance: event.target.dataset.instance}
        : {kind: "service", service: service.name}),
      onkeydown: (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        this.open({kind: "service", service: service.name});
      },
      onmouseenter: () => this.highlight(service.name),
      onmouseleave: () => this.highlight(null),
      onfocus: () => this.highlight(service.name),
      onblur: () => this.highlight(null),
    }, Object.values(parts));
    this.cardLayer.append(root);
    return {root, ...parts, drawn: new Map()};
  }

  drawCard(card, service) {
    const box = this.places.boxes.get(service.name);
    attribute(card.root, "transform", `translate(${box.x},${box.y})`);
    attribute(card.root, "data-service", service.name);
    attribute(card.box, "height", box.height);
    const bad = service.instances.filter((one) => one.state !== "up" && one.state !== "starting" && one.state !== "left");
    const isAway = service.kind === "service" && !service.instances.some((one) => one.state === "up");
    attribute(card.root, "class", `card ${service.kind}${service.errors > 0 ? " failing" : ""}${bad.length ? " troubled" : ""}${isAway ? " away" : ""}${card.root.classList.contains("found") ? " found" : ""}${card.root.classList.contains("near") ? " near" : ""}`);
    const title = service.kind === "clients" ? "clients" : service.name;
    text(card.name, show.cut(title, 18));
    const queued = show.sum(service.instances.map((one) => one.queued));
    const numbers = service.kind === "service"
      ? `${show.rate(service.rate)} · p99 ${show.duration(service.p99)}`
      : {clients: "outside of the cluster", source: "publishes events", absent: "not listed now"}[service.kind];
    text(card.numbers, numbers);
    const warnings = [];
    if (service.errors > 0) warnings.push({text: `▲ ${show.rate(service.errors)} errors`, short: `▲ ${show.rate(service.errors)}`});
    const oldest = Math.max(0, ...service.instances.map((one) => one.oldest || 0));
    if (oldest >= show.LONG) warnings.push({text: `${show.duration(oldest)} running`, short: show.duration(oldest)});
    if (queued) warnings.push({text: `${show.count(queued)} queued`, short: `${show.count(queued)} queued`});
    text(card.warn, show.fitting(warnings, WARNING));
    this.drawSpark(card, service);
    this.drawMarks(card, service);
    const states = service.instances.length ? `${service.instances.length} instances` : "";
    const named = bad.map((one) => show.stateOf(one.state).text).join(", ");
    attribute(card.root, "aria-label", [title, numbers, warnings.map((one) => one.text).join(", "), states, named].filter(Boolean).join(", "));
  }

  drawSpark(card, service) {
    if (service.kind !== "service") return;
    const points = this.history.get(service.name) || [];
    points.push(service.rate);
    if (points.length > POINTS) points.shift();
    this.history.set(service.name, points);
    const most = Math.max(...points, 0.001);
    attribute(card.spark, "points", points.map((value, index) => (
      `${(CARD.width - 12 - (points.length - 1 - index)).toFixed(0)},${(24 - 14 * value / most).toFixed(1)}`
    )).join(" "));
  }

  drawMarks(card, service) {
    const grid = markGrid(service.instances.length);
    const wanted = new Set();
    service.instances.forEach((instance, index) => {
      wanted.add(instance.id);
      let mark = card.drawn.get(instance.id);
      const x = 12 + (index % grid.columns) * grid.step, y = 66 + Math.floor(index / grid.columns) * grid.step;
      const look = `${instance.state} ${x} ${y} ${grid.size}`;
      if (!mark) {
        mark = {node: s("path", {"data-instance": instance.id}), title: s("title")};
        mark.node.append(mark.title);
        card.drawn.set(instance.id, mark);
        card.marks.append(mark.node);
      }
      if (mark.look !== look) {
        mark.look = look;
        mark.node.setAttribute("class", `mark ${instance.state}`);
        mark.node.setAttribute("d", shape(instance.state, x, y, grid.size));
      }
      text(mark.title, `${instance.id}: ${show.stateOf(instance.state).text}, ${instance.where}`);
    });
    for (const [id, mark] of card.drawn) {
      if (!wanted.has(id)) {
        mark.node.remove();
        card.drawn.delete(id);
      }
    }
  }

  // --- edges ---

  drawEdges(edges) {
    const wanted = new Set(edges.map((one) => one.key));
    for (const [key, line] of this.lines) {
      if (!wanted.has(key)) {
        line.root.remove();
        line.label.remove();
        this.lines.delete(key);
      }
    }
    for (const edge of edges) {
      const route = this.places.paths.get(edge.key);
      if (!route) continue;
      let line = this.lines.get(edge.key);
      if (!line) this.lines.set(edge.key, line = this.newLine(edge));
      this.drawLine(line, edge, route);
    }
  }

  newLine(edge) {
    const path = s("path", {class: "line"}), hit = s("path", {class: "hit"});
    const first = s("tspan", {class: "first"}), second = s("tspan", {class: "second"});
    const label = s("text", {class: "label", "text-anchor": "middle", onclick: () => this.open(edge.opens)}, first, second);
    const root = s("g", {
      tabindex: 0, role: "button", onclick: () => this.open(edge.opens),
      onkeydown: (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        this.open(edge.opens);
      },
    }, hit, path);
    this.edgeLayer.append(root);
    this.labelLayer.append(label);
    return {root, path, hit, label, first, second};
  }

  drawLine(line, edge, route) {
    const isBad = edge.errors > 0 || edge.dead > 0;
    attribute(line.root, "class", `edge ${edge.kind}${isBad ? " bad" : ""}${edge.rate ? "" : " idle"}${line.isNear ? " near" : ""}`);
    line.ends = [edge.from, edge.to];
    attribute(line.path, "d", route.path);
    attribute(line.hit, "d", route.path);
    attribute(line.path, "stroke-width", (1.3 + Math.log10(1 + edge.rate) * 1.1).toFixed(1));
    attribute(line.path, "marker-end", `url(#${isBad ? "arrow-bad" : edge.kind === "event" ? "arrow-event" : "arrow"})`);
    const [one, two] = edge.lines;
    attribute(line.label, "class", `label ${edge.kind}${isBad ? " bad" : ""}${line.isNear ? " near" : ""}`);
    for (const [span, value, dy] of [[line.first, one, two ? -3 : 4], [line.second, two, 12]]) {
      attribute(span, "x", route.x.toFixed(0));
      attribute(span, "y", (route.y + dy).toFixed(0));
      text(span, value);
    }
    attribute(line.root, "aria-label", edge.label);
  }

  highlight(name) {
    this.svg.classList.toggle("focused", Boolean(name));
    for (const line of this.lines.values()) {
      line.isNear = Boolean(name) && line.ends && line.ends.includes(name);
      line.root.classList.toggle("near", line.isNear);
      line.label.classList.toggle("near", line.isNear);
    }
    const near = new Set([name]);
    for (const line of this.lines.values()) if (line.isNear) line.ends.forEach((end) => near.add(end));
    for (const [other, card] of this.cards) card.root.classList.toggle("near", Boolean(name) && near.has(other));
  }

  find(words) {
    const wanted = words.trim().toLowerCase();
    let first = null;
    for (const [name, card] of this.cards) {
      const isFound = Boolean(wanted) && name.toLowerCase().includes(wanted);
      card.root.classList.toggle("found", isFound);
      if (isFound && !first) first = card.root;
    }
    return first;
  }

  // --- keys and size ---

  step(event) {
    const moves = {ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1]};
    const card = event.target.closest && event.target.closest(".card");
    if (!moves[event.key] || !card) return;
    const [dx, dy] = moves[event.key];
    const here = this.places.boxes.get(card.dataset.service);
    let best = null, least = Infinity;
    for (const [name, other] of this.cards) {
      const box = this.places.boxes.get(name);
      const x = box.x - here.x, y = box.y - here.y;
      const along = x * dx + y * dy, across = Math.abs(x * dy) + Math.abs(y * dx);
      if (along <= 0 || (dy && x)) continue;
      const distance = along + across * 2;
      if (distance < least) [best, least] = [other.root, distance];
    }
    event.preventDefault();
    if (best) {
      best.focus();
      best.scrollIntoView({block: "nearest", inline: "nearest"});
    }
  }

  zoom(factor) {
    this.scale = Math.min(2, Math.max(0.25, (this.scale || this.shown) * factor));
    this.fit();
  }

  fitAgain() {
    this.scale = null;
    this.fit();
  }

  fit() {
    if (!this.places) return;
    const {width, height} = this.places;
    const room = this.svg.parentElement;
    // Not smaller than can be read; beyond that, the user scrolls.
    const fitting = Math.max(0.75, Math.min(1.15, (room.clientWidth - 2) / width, Math.max((room.clientHeight - 4) / height, 0.75)));
    this.shown = this.scale || fitting;
    attribute(this.svg, "viewBox", `0 0 ${width} ${height}`);
    attribute(this.svg, "width", Math.floor(width * this.shown));
    attribute(this.svg, "height", Math.floor(height * this.shown));
  }
}

export function edgesOf(picture) {
  const calls = picture.calls.map((one) => ({
    key: `call ${one.kind} ${one.from} > ${one.to}`, kind: one.kind, from: one.from, to: one.to, rate: one.rate, errors: one.errors, dead: 0,
    lines: [
      `${one.kind === "http" ? "HTTP " : ""}${show.rate(one.rate)}`,
      [one.p99 === null ? "" : show.duration(one.p99), one.errors ? `▲ ${show.rate(one.errors)}` : ""].filter(Boolean).join(" · "),
    ],
    label: `${one.from} calls ${one.to}${one.kind === "http" ? " over HTTP" : ""}, ${show.rate(one.rate)}, p99 ${show.duration(one.p99)}, ${show.rate(one.errors)} errors`,
    opens: {kind: "call", from: one.from, service: one.to, how: one.kind},
  }));
  const events = picture.events.map((one) => ({
    key: `event ${one.source} > ${one.group} > ${one.to}`, kind: "event", from: one.source, to: one.to, rate: one.rate, errors: one.errors,
    dead: one.dead_letters,
    lines: [
      `✉ ${show.cut(one.types.join(", ") || one.group, 14)} ${show.rate(one.rate)}`,
      [one.waiting ? `${show.count(one.waiting)} waiting` : "", one.errors && !one.dead_letters ? `▲ ${show.rate(one.errors)}` : "", one.dead_letters ? `▲ ${show.count(one.dead_letters)} dead` : ""].filter(Boolean).join(" · "),
    ],
    label: `events of ${one.source} to ${one.to}, ${show.rate(one.rate)}, ${one.waiting} waiting, ${one.dead_letters} dead letters`,
    opens: {kind: "event", source: one.source, group: one.group},
  }));
  return [...calls, ...events];
}

// Each state has a shape of its own, so that none is told by its colour alone.
function shape(state, x, y, size) {
  const right = x + size, bottom = y + size, half = size / 2;
  switch (state) {
    case "ejected": return `M${x + half},${y - 1} L${right + 1},${y + half} L${x + half},${bottom + 1} L${x - 1},${y + half} Z`;
    case "suspect": case "silent": return `M${x + half},${y} L${right},${bottom} H${x} Z`;
    case "lost": return `M${x},${y} L${right},${bottom} M${right},${y} L${x},${bottom}`;
    case "draining": return `M${x},${y} H${right} V${bottom} H${x} Z M${x},${y} H${x + half} V${bottom} H${x} Z`;
    default: return `M${x},${y} H${right} V${bottom} H${x} Z`;
  }
}

function marker(id) {
  return s("marker", {id, viewBox: "0 0 8 8", refX: 1, refY: 4, markerWidth: 8, markerHeight: 8, markerUnits: "userSpaceOnUse", orient: "auto"}, s("path", {d: "M0,0 L8,4 L0,8 Z"}));
}
