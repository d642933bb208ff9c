// The details that the user opened: of a service, an instance, a line of calls, or the events of a group.

import {h, s} from "./dom.js";
import * as show from "./format.js";

// Milliseconds between two questions for details.
const INTERVAL = 2000;
const HEADERS = {"Content-Type": "application/json", "X-Zmqservices-Dashboard": "1"};

export class Panel {
  constructor(box, state, open) {
    this.box = box;
    this.state = state;
    this.openOther = open;
    this.what = null;
    this.details = null;
    this.letters = null;
    this.problem = "";
    // What the last change did, and why a part of it failed. They stay until the next change, or until something else is opened.
    this.note = "";
    this.failures = [];
    this.askedAt = 0;
  }

  get isOpen() {
    return this.what !== null;
  }

  open(what, from) {
    if (!this.isOpen && from && from !== document.body) this.returnTo = from;
    this.what = what;
    this.details = this.letters = null;
    this.problem = this.note = "";
    this.failures = [];
    this.askedAt = 0;
    this.box.hidden = false;
    document.body.classList.add("has-panel");
    this.box.scrollTop = 0;
    this.draw();
    this.box.focus({preventScroll: true});
    this.ask();
  }

  close() {
    this.what = null;
    this.box.hidden = true;
    document.body.classList.remove("has-panel");
    this.box.replaceChildren();
    const back = this.returnTo && this.returnTo.isConnected ? this.returnTo : document.getElementById("services");
    back.focus({preventScroll: true});
    this.returnTo = null;
  }

  refresh() {
    if (!this.isOpen) return;
    if (performance.now() - this.askedAt > INTERVAL) this.ask();
    else this.draw();
  }

  async ask() {
    const what = this.what;
    this.askedAt = performance.now();
    try {
      if (what.kind === "event") {
        const found = await fetched(`api/dead-letters?${new URLSearchParams({source: what.source, group: what.group})}`);
        if (this.what === what) this.letters = found;
      } else {
        const query = {service: what.service, ...(what.kind === "instance" ? {instance: what.instance} : {})};
        const found = await fetched(`api/details?${new URLSearchParams(query)}`);
        if (this.what === what) this.details = found;
      }
      if (this.what === what) this.problem = "";
    } catch (error) {
      if (this.what === what) this.problem = error.message;
    }
    if (this.what === what) this.draw();
  }

  // A selected text, and opened sections, stay as they are while numbers change.
  draw() {
    const selection = getSelection();
    if (selection && !selection.isCollapsed && this.box.contains(selection.anchorNode)) return;
    const openKeys = new Set([...this.box.querySelectorAll("details[open]")].map((one) => one.dataset.key));
    const active = this.box.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
    const scroll = this.box.scrollTop;
    const kinds = {service: serviceParts, instance: instanceParts, call: callParts, event: eventParts};
    const title = {service: this.what.service, instance: this.what.service, call: `${plain(this.what.from)} → ${this.what.service}`, event: `✉ ${this.what.source}`}[this.what.kind];
    this.box.replaceChildren(
      h("div", {class: "head"}, h("h2", {}, title), h("button", {type: "button", "data-key": "close", "aria-label": "Close", onclick: () => this.close()}, "✕")),
      ...[this.problem, ...this.failures].filter(Boolean).map((one) => h("p", {class: "problem", role: "alert"}, one)),
      this.note ? h("p", {class: "note", role: "status"}, this.note) : "",
      ...kinds[this.what.kind](this).flat(),
    );
    for (const one of this.box.querySelectorAll("details")) if (openKeys.has(one.dataset.key)) one.open = true;
    this.box.scrollTop = scroll;
    if (active !== undefined) for (const one of this.box.querySelectorAll("[data-key]")) if (one.dataset.key === active) one.focus({preventScroll: true});
  }

  async change(action, letters) {
    const what = this.what;
    const isAll = letters === null;
    const many = isAll ? "all dead letters of this group" : letters.length === 1 ? "this dead letter" : `${letters.length} dead letters`;
    if (action === "drop" && !confirm(`Drop ${many}? This cannot be undone.`)) return;
    let count = 0;
    const failures = [];
    const journals = isAll ? [null] : [...new Set(letters.map((one) => one.journal))];
    for (const journal of journals) {
      const seqs = isAll ? [] : letters.filter((one) => one.journal === journal).map((one) => one.seq);
      const body = JSON.stringify({action, source: what.source, group: what.group, seqs, journal});
      try {
        const done = await fetched("api/dead-letters", {method: "POST", headers: HEADERS, body});
        count += done.count;
        failures.push(...done.problems);
      } catch (error) {
        failures.push(error.message);
      }
    }
    if (this.what !== what) return;
    this.note = count || !failures.length ? `${count} ${action === "drop" ? "dropped" : "requeued"}` : "";
    this.failures = failures;
    await this.ask();
  }
}

async function fetched(url, options) {
  const answer = await fetch(url, options);
  const value = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(value.error || `the dashboard answered ${answer.status}`);
  return value;
}

// --- a service ---

function serviceParts(panel) {
  const {picture} = panel.state();
  const service = picture && picture.services.find((one) => one.name === panel.what.service);
  const details = panel.details;
  if (!service) return [h("p", {}, "This service is not listed any more.")];
  return [
    details && details.described && details.described.doc ? h("p", {class: "doc"}, details.described.doc) : "",
    facts([["rate", show.rate(service.rate)], ["p99", show.duration(service.p99)], ["errors", show.rate(service.errors)], ["events out", show.rate(service.dispatched)]]),
    instancesPart(panel, service),
    ...common(panel, details),
    details ? callsPart(panel, details, picture) : "",
    eventsPart(panel, picture, service.name),
    details && details.described ? entrypointsPart(details.described, panel.what.service) : "",
  ];
}

function instancesPart(panel, service) {
  if (!service.instances.length) return "";
  const sorted = [...service.instances].sort((a, b) => show.stateOf(a.state).rank - show.stateOf(b.state).rank);
  const shown = sorted.slice(0, 50);
  return section(`Instances (${service.instances.length})`, table(
    ["instance", "state", "where", "rate", "p99", "errors", "busy", "queue"],
    shown.map((one) => [
      h("button", {type: "button", class: "link", "data-key": `instance ${one.id}`, onclick: () => panel.openOther({kind: "instance", service: service.name, instance: one.id})}, h("code", {}, show.cut(one.id, 8))),
      stateCell(one), one.where, show.rate(one.rate), show.duration(one.p99), show.rate(one.errors), one.workers ? `${one.running}/${one.workers}` : "–", show.count(one.queued),
    ]), [0, 1, 2]), sorted.length > shown.length ? h("p", {class: "more"}, `and ${sorted.length - shown.length} more`) : "");
}

function stateCell(one) {
  const {sign, text} = show.stateOf(one.state);
  const why = one.ejected_by && one.ejected_by.length ? ` by ${one.ejected_by.join(", ")}` : "";
  return h("span", {class: `state ${one.state}`}, h("span", {class: "sign", "aria-hidden": "true"}, sign), text + why);
}

function common(panel, details) {
  if (!details) return [panel.problem ? "" : h("p", {class: "waiting"}, "Asking the nodes…")];
  return [runningPart(details), methodsPart(details), requestsPart(details), errorsPart(details)];
}

function runningPart(details) {
  const long = details.running.filter((one) => one.seconds >= show.LONG);
  if (!long.length) return "";
  return section("Runs now", table(["method", "for", "called by", "call"], long.map((one) => [
    one.method, show.duration(one.seconds), h("span", {title: one.caller}, callerOf(one.caller)), h("code", {}, one.call_id),
  ]), [0, 2, 3]));
}

// A call's id is SERVICE.METHOD.NUMBER, in which clients stand for a service.
function callerOf(id) {
  return id.startsWith("standalone_rpc_proxy.") ? "a client" : id.replace(/\.[^.]*$/, "") || "–";
}

function methodsPart(details) {
  if (!details.methods.length) return "";
  return section("Methods", details.methods.map((one) => {
    const failed = show.sum(Object.values(one.failed));
    const key = `method ${one.kind} ${one.method} ${one.event} ${one.group}`;
    return h("details", {"data-key": key},
      h("summary", {"data-key": `${key} summary`},
        h("span", {class: "kind"}, one.kind), h("b", {}, one.method), one.event ? h("span", {class: "event"}, `✉ ${one.event}`) : "",
        h("span", {class: "numbers"}, `${show.rate(one.recent.rate)} · p99 ${show.duration(one.recent.p99 === null ? one.p99 : one.recent.p99)}`, one.recent.errors ? h("span", {class: "warn"}, ` · ▲ ${show.rate(one.recent.errors)}`) : "")),
      histogram(details.bounds, one),
      h("p", {}, `${show.count(one.count)} since the nodes began to count, ${show.count(failed)} of them failed; p50 ${show.duration(one.p50)}, p99 ${show.duration(one.p99)}`),
      failed ? h("ul", {class: "types"}, Object.entries(one.failed).sort((a, b) => b[1] - a[1]).map(([type, count]) => h("li", {}, h("b", {}, show.count(count)), ` ${type}`))) : "",
    );
  }));
}

function histogram(bounds, method) {
  const isRecent = method.recent_histogram.length > 0;
  const counts = new Map(isRecent ? method.recent_histogram : method.histogram);
  if (!counts.size) return "";
  const used = [...counts.keys()];
  const first = Math.max(0, Math.min(...used) - 3), last = Math.min(bounds.length, Math.max(...used) + 3);
  const width = 360, height = 96, step = width / (last - first + 1), most = Math.max(...counts.values());
  const bars = [...counts].map(([index, count]) => s("rect", {
    x: ((index - first) * step).toFixed(1), width: Math.max(1, step - 1).toFixed(1), y: (78 - 70 * count / most).toFixed(1), height: (70 * count / most).toFixed(1),
  }, s("title", {}, `${count} up to ${show.duration(bounds[Math.min(index, bounds.length - 1)])}`)));
  const ticks = [];
  for (let index = first; index <= last; index++) {
    if (index % 20 === 0 || (last - first < 22 && index % 10 === 0)) {
      const x = (index - first + 1) * step;
      ticks.push(s("line", {x1: x, x2: x, y1: 78, y2: 82}), s("text", {x, y: 93, "text-anchor": x < 20 ? "start" : x > width - 20 ? "end" : "middle"}, show.duration(bounds[Math.min(index, bounds.length - 1)])));
    }
  }
  const quantile = isRecent ? method.recent.p99 : method.p99;
  const at = bounds.findIndex((bound) => bound >= quantile);
  const x = ((at < 0 ? last : at) - first + 0.5) * step;
  return s("svg", {class: "histogram", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `How long ${method.method} took ${isRecent ? "in the last seconds" : "so far"}: p99 ${show.duration(quantile)}`},
    s("line", {class: "axis", x1: 0, x2: width, y1: 78, y2: 78}), bars, ticks,
    s("line", {class: "quantile", x1: x, x2: x, y1: 6, y2: 78}), s("text", {class: "quantile", x: x > width - 40 ? x - 4 : x + 4, y: 12, "text-anchor": x > width - 40 ? "end" : "start"}, "p99"));
}

function requestsPart(details) {
  if (!details.requests.length) return "";
  return section("HTTP", table(["request", "status", "rate", "p99", "count"], details.requests.map((one) => [`${one.method} ${one.route}`, one.status, show.rate(one.rate), show.duration(one.p99 === null ? one.total_p99 : one.p99), show.count(one.count)]), [0]));
}

function errorsPart(details) {
  if (!details.errors.length) return "";
  return section(`Last errors (${details.errors.length})`, details.errors.map((one) => h("details", {class: "error", "data-key": `error ${one.instance} ${one.method} ${one.type}`},
    h("summary", {"data-key": `error summary ${one.instance} ${one.method} ${one.type}`}, h("time", {}, show.clock(one.at)), h("b", {}, show.shortType(one.type)), h("span", {class: "text"}, show.cut(one.text, 140)), h("span", {class: "in"}, `in ${one.method}`)),
    h("p", {}, "call ", h("code", {}, one.call_id), " at instance ", h("code", {}, one.instance)),
    h("pre", {tabindex: 0}, one.traceback || "no traceback was kept"))));
}

function callsPart(panel, details, picture) {
  const name = details.service;
  const rows = (list, other) => list.map((one) => [
    h("button", {type: "button", class: "link", "data-key": `call ${one.caller} ${one.service} ${one.method}`, onclick: () => panel.openOther({kind: "service", service: one[other]}), disabled: !picture.services.some((service) => service.name === one[other])}, plain(one[other])),
    one.method, show.rate(one.rate), show.duration(one.p99 === null ? one.total_p99 : one.p99), failures(one), show.count(one.count),
  ]);
  const head = ["method", "rate", "p99", "errors", "count"];
  const callers = details.calls.filter((one) => one.service === name), callees = details.calls.filter((one) => one.caller === name);
  return [
    callers.length ? section("Called by", table(["caller", ...head], rows(callers, "caller"), [0, 1])) : "",
    callees.length ? section("Calls", table(["service", ...head], rows(callees, "service"), [0, 1])) : "",
  ];
}

function failures(one) {
  const failed = Object.entries(one.failed);
  if (!failed.length) return "0";
  return h("span", {class: "warn", title: failed.map(([type, count]) => `${count} ${type}`).join("\n")}, `▲ ${show.count(show.sum(failed.map(([, count]) => count)))} ${failed.map(([type]) => show.shortType(type)).join(", ")}`);
}

function eventsPart(panel, picture, name) {
  const found = picture.events.filter((one) => one.source === name || one.to === name);
  if (!found.length) return "";
  return section("Events", table(["from", "to", "types", "rate", "waiting", "dead letters"], found.map((one) => [
    one.source,
    h("button", {type: "button", class: "link", "data-key": `event ${one.source} ${one.group}`, onclick: () => panel.openOther({kind: "event", source: one.source, group: one.group})}, one.to),
    one.types.join(", "), show.rate(one.rate), show.count(one.waiting), one.dead_letters ? h("span", {class: "warn"}, `▲ ${show.count(one.dead_letters)}`) : "0",
  ]), [0, 1, 2]));
}

function entrypointsPart(described, service) {
  const contract = h("a", {href: `/api/contract?service=${encodeURIComponent(service)}`, target: "_blank", rel: "noopener", "data-key": "contract"}, "contract as OpenAPI and AsyncAPI (JSON)");
  return section("Entrypoints", h("p", {}, h("code", {}, described.class), " ", contract), described.entrypoints.map((one) => h("details", {"data-key": `entrypoint ${one.kind} ${one.method} ${one.what}`},
    h("summary", {"data-key": `entrypoint summary ${one.kind} ${one.method} ${one.what}`}, h("span", {class: "kind"}, one.kind), h("b", {}, one.method), h("span", {class: "text"}, one.what)),
    one.signature ? h("p", {}, h("code", {}, one.method + one.signature)) : "", one.doc ? h("p", {class: "doc"}, one.doc) : "")),
  Object.keys(described.dependencies || {}).length ? h("p", {}, "Needs ", Object.entries(described.dependencies).map(([attribute, kind]) => `${attribute} (${kind})`).join(", ")) : "");
}

// --- an instance ---

function instanceParts(panel) {
  const {picture} = panel.state();
  const service = picture && picture.services.find((one) => one.name === panel.what.service);
  const one = service && service.instances.find((instance) => instance.id === panel.what.instance);
  const details = panel.details;
  const process = details && details.processes[0];
  return [
    h("p", {}, "Instance ", h("code", {}, panel.what.instance), " of ", h("button", {type: "button", class: "link", "data-key": "service", onclick: () => panel.openOther({kind: "service", service: panel.what.service})}, panel.what.service)),
    one ? h("p", {}, stateCell(one)) : h("p", {}, "This instance is not listed any more."),
    one ? facts([["rate", show.rate(one.rate)], ["p99", show.duration(one.p99)], ["errors", show.rate(one.errors)], ["busy", one.workers ? `${one.running} of ${one.workers}` : "–"], ["queued", show.count(one.queued)]]) : "",
    process ? facts([["process", `${process.pid} on ${process.host}`], ["up for", show.age(process.uptime)], ["version", process.version || "–"], ["calls out in flight", process.in_flight]]) : "",
    ...(one && one.state !== "lost" && one.state !== "left" ? common(panel, details) : [h("p", {}, "Its node cannot be asked any more.")]),
    details && details.callees.length ? section("Its view of the services that it calls", details.callees.map((callee) => table([callee.service, "condition", "in flight", "share"], callee.instances.map((other) => [
      h("code", {}, show.cut(other.instance, 10)), other.condition + (other.why ? `: ${other.why}` : ""), other.in_flight, other.share,
    ]), [0, 1]))) : "",
  ];
}

// --- who calls whom ---

function callParts(panel) {
  const {picture} = panel.state();
  const {from, service, how} = panel.what;
  const edge = picture && picture.calls.find((one) => one.from === from && one.to === service && one.kind === how);
  const details = panel.details;
  const names = from === "(clients)" ? ["", "standalone_rpc_proxy"] : [from];
  const rows = details ? details.calls.filter((one) => one.service === service && (names.includes(one.caller) || (one.caller === "" && from !== "(clients)"))) : [];
  return [
    edge ? facts([["rate", show.rate(edge.rate)], ["p99", show.duration(edge.p99)], ["errors", show.rate(edge.errors)]]) : h("p", {}, "No such calls are known now."),
    h("p", {}, how === "http" ? "HTTP requests, as the service answered them. Errors are those of status 500 and above." : from === "(clients)" ? "Calls of clients that are no services; only the service's side is known." : "As the caller sees it: with repeats, and with the time until an instance was found."),
    how === "http" && details ? requestsPart(details) : "",
    rows.length ? section("Methods", table(["method", "rate", "p99", "errors", "count"], rows.map((one) => [one.method, show.rate(one.rate), show.duration(one.p99 === null ? one.total_p99 : one.p99), failures(one), show.count(one.count)]), [0])) : "",
    h("p", {class: "row"}, [from, service].filter((name) => name !== "(clients)").map((name) => h("button", {type: "button", "data-key": `open ${name}`, onclick: () => panel.openOther({kind: "service", service: name})}, `Open ${name}`))),
    details ? errorsPart(details) : panel.problem ? "" : h("p", {class: "waiting"}, "Asking the nodes…"),
  ];
}

// --- events ---

function eventParts(panel) {
  const {picture, operate} = panel.state();
  const one = picture && picture.events.find((event) => event.source === panel.what.source && event.group === panel.what.group);
  const letters = panel.letters;
  if (!one) return [h("p", {}, "No such group is known now.")];
  return [
    h("p", {}, "To ", h("button", {type: "button", class: "link", "data-key": "to", onclick: () => panel.openOther({kind: "service", service: one.to})}, one.to), ", group ", h("code", {}, one.group)),
    facts([["handled", show.rate(one.rate)], ["p99", show.duration(one.p99)], ["failed", show.rate(one.errors)], ["waiting", show.count(one.waiting)], ["oldest", one.waiting ? show.age(one.oldest_age) : "–"], ["in flight", show.count(one.in_flight)], ["members", show.count(one.members)], ["dead letters", show.count(one.dead_letters)]]),
    letters === null ? (panel.problem ? "" : h("p", {class: "waiting"}, "Asking the publishers…")) : lettersPart(panel, letters, operate),
  ];
}

function lettersPart(panel, letters, operate) {
  const list = letters.dead_letters;
  const disabled = !operate;
  const why = disabled ? "Start the dashboard with --operate to change something" : null;
  return section("Dead letters",
    letters.problems.map((problem) => h("p", {class: "problem"}, problem)),
    list.length ? "" : h("p", {}, "There are none: every event was handled or is waiting."),
    disabled && list.length ? h("p", {class: "readonly"}, "Read-only. Start the dashboard with ", h("code", {}, "--operate"), " to requeue or drop them.") : "",
    list.length ? h("p", {class: "row"}, h("button", {type: "button", disabled, title: why, "data-key": "requeue all", onclick: () => panel.change("requeue", null)}, "Requeue all"), h("button", {type: "button", class: "danger", disabled, title: why, "data-key": "drop all", onclick: () => panel.change("drop", null)}, "Drop all")) : "",
    list.map((one) => {
      const error = one.error || {};
      const key = `letter ${one.journal} ${one.seq}`;
      return h("details", {class: "error letter", "data-key": key},
        h("summary", {"data-key": `${key} summary`}, h("time", {}, show.clock(one.buried_at || one.at)), h("b", {}, `#${one.seq} ${one.type}`), h("span", {class: "text"}, show.cut(`${error.exc_type || "no error"}: ${error.value || ""}`, 140))),
        h("p", {}, `${one.attempts} attempts; dispatched ${show.clock(one.at)}`),
        h("p", {class: "row"}, h("button", {type: "button", disabled, title: why, "data-key": `${key} requeue`, onclick: () => panel.change("requeue", [one])}, "Requeue"), h("button", {type: "button", class: "danger", disabled, title: why, "data-key": `${key} drop`, onclick: () => panel.change("drop", [one])}, "Drop")),
        h("h4", {}, "Data"), h("pre", {tabindex: 0}, show.cut(JSON.stringify(one.data, null, 2), 4000)),
        error.traceback ? [h("h4", {}, "Traceback of the last error"), h("pre", {tabindex: 0}, String(error.traceback))] : "");
    }));
}

// --- parts ---

function plain(name) {
  return name === "(clients)" || name === "standalone_rpc_proxy" || name === "" ? "clients" : name;
}

function section(title, ...children) {
  return h("section", {}, h("h3", {}, title), ...children);
}

function facts(pairs) {
  return h("dl", {class: "facts"}, pairs.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

function table(head, rows, texts) {
  return h("div", {class: "scroll"}, h("table", {}, h("thead", {}, h("tr", {}, head.map((name, index) => h("th", {scope: "col", class: texts.includes(index) ? "" : "number"}, name)))),
    h("tbody", {}, rows.map((row) => h("tr", {}, row.map((cell, index) => h("td", {class: texts.includes(index) ? "" : "number"}, cell)))))));
}
