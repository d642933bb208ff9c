// Shows the same as the map in a table, for narrow screens and screen readers.

import {h} from "./dom.js";
import * as show from "./format.js";

export function drawTable(box, picture, open, words) {
  const wanted = words.trim().toLowerCase();
  const focused = box.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  const services = picture.services.filter((one) => one.kind !== "clients" && one.name.toLowerCase().includes(wanted));
  const rows = services.map((one) => {
    const states = new Map();
    for (const instance of one.instances) states.set(instance.state, (states.get(instance.state) || 0) + 1);
    const callers = picture.calls.filter((call) => call.to === one.name).map((call) => call.from === "(clients)" ? "clients" : call.from);
    const queued = show.sum(one.instances.map((instance) => instance.queued));
    const dead = show.sum(picture.events.filter((event) => event.to === one.name).map((event) => event.dead_letters));
    const waiting = show.sum(picture.events.filter((event) => event.to === one.name).map((event) => event.waiting));
    return h("tr", {class: one.errors > 0 || dead ? "bad" : ""},
      h("th", {scope: "row"}, h("button", {type: "button", class: "link", "data-key": one.name, onclick: () => open({kind: "service", service: one.name})}, one.name)),
      h("td", {"data-label": "instances"}, [...states].sort().map(([state, count]) => h("span", {class: `state ${state}`}, h("span", {class: "sign", "aria-hidden": "true"}, show.stateOf(state).sign), `${count} ${show.stateOf(state).text}`)), one.instances.length ? "" : "none"),
      h("td", {class: "number", "data-label": "rate"}, show.rate(one.rate)),
      h("td", {class: "number", "data-label": "p99"}, show.duration(one.p99)),
      h("td", {class: `number${one.errors > 0 ? " warn" : ""}`, "data-label": "errors"}, one.errors > 0 ? `▲ ${show.rate(one.errors)}` : "0/s"),
      h("td", {class: "number", "data-label": "queued"}, show.count(queued)),
      h("td", {class: "number", "data-label": "events waiting"}, show.count(waiting)),
      h("td", {class: `number${dead ? " warn" : ""}`, "data-label": "dead letters"}, dead ? `▲ ${show.count(dead)}` : "0"),
      h("td", {"data-label": "called by"}, [...new Set(callers)].join(", ") || "–"),
    );
  });
  const head = ["service", "instances", "rate", "p99", "errors", "queued", "events waiting", "dead letters", "called by"];
  box.replaceChildren(h("table", {}, h("thead", {}, h("tr", {}, head.map((name) => h("th", {scope: "col"}, name)))), h("tbody", {}, rows)));
  if (focused) for (const button of box.querySelectorAll("[data-key]")) if (button.dataset.key === focused) button.focus({preventScroll: true});
}
