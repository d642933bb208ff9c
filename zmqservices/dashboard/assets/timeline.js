// The list of what happened, newest first.

import {h} from "./dom.js";
import * as show from "./format.js";

const SIGNS = {
  joined: "+", back: "+", started: "+", listed: "+", restored: "+", "link up": "+", left: "□", stopped: "□", unlisted: "□", lost: "✕",
  "link lost": "✕", "link refused": "✕", ejected: "◆", "link suspect": "▲", draining: "◧", drained: "◧",
};
const BAD = new Set(["lost", "link lost", "link refused", "ejected", "link suspect"]);

let shown = null;

export function drawTimeline(list, timeline, picture, open) {
  const key = timeline.map((one) => `${one.number}x${one.seen_by}`).join();
  if (key === shown) return;
  shown = key;
  const known = new Map(picture.services.flatMap((service) => service.instances.map((one) => [one.id, service.name])));
  const rows = [...timeline].reverse().map((one) => {
    const service = known.get(one.instance);
    const name = one.service || "a node";
    return h("li", {class: BAD.has(one.what) ? "bad" : ""},
      h("time", {datetime: new Date(one.at * 1000).toISOString()}, show.clock(one.at)),
      h("span", {class: "what"}, h("span", {class: "sign", "aria-hidden": "true"}, SIGNS[one.what] || "·"), one.what),
      service
        ? h("button", {type: "button", class: "link", onclick: () => open({kind: "instance", service, instance: one.instance})}, name)
        : h("b", {}, name),
      h("code", {}, show.cut(one.instance, 12)),
      h("span", {class: "detail"}, one.detail, one.seen_by > 1 ? ` (seen ${one.seen_by} times)` : ""),
    );
  });
  list.replaceChildren(...(rows.length ? rows : [h("li", {class: "none"}, "Nothing has happened yet.")]));
}
