// Computes the places on the map. Pure: the same services give the same map, so nothing moves until a service or edge is added or removed.
//
// Services stand in columns, callers to the left of what they call (longest path; edges that close a circle do not count). An edge
// over several columns has a place of its own in each of them, so that no service hides it. Within columns the order is that of
// the neighbours (barycentres).

export const CARD = {width: 208, gapX: 168, gapY: 32, margin: 24, lane: 20};
// The height at which a column is split, so that a map of many services does not become a tower.
const TALLEST = 1400;
const SWEEPS = 6;

export function cardHeight(instances) {
  const marks = markGrid(instances);
  return 66 + Math.max(1, marks.rows) * marks.step + 4;
}

export function markGrid(instances) {
  const step = instances > 48 ? 11 : 16;
  const columns = Math.floor((CARD.width - 24) / step);
  return {step, size: step - 4, columns, rows: Math.ceil(instances / columns)};
}

export function layout(services, edges) {
  const names = services.map((one) => one.name).sort();
  const heights = new Map(services.map((one) => [one.name, cardHeight(one.instances.length)]));
  const forward = withoutCircles(names, edges);
  const ranks = longestPaths(names, forward);
  const {columns, chains} = columnsOf(names, ranks, edges, heights);
  order(columns, chains);
  const places = place(columns);
  return {...places, paths: route(edges, chains, places.boxes)};
}

function withoutCircles(names, edges) {
  const out = new Map(names.map((name) => [name, []]));
  const incoming = new Map(names.map((name) => [name, 0]));
  for (const edge of edges) {
    if (edge.from === edge.to || !out.has(edge.from) || !out.has(edge.to)) continue;
    out.get(edge.from).push(edge.to);
    incoming.set(edge.to, incoming.get(edge.to) + 1);
  }
  for (const targets of out.values()) targets.sort();
  const state = new Map();
  const forward = [];
  // An explicit stack: a long chain of services must not exhaust the one of the page.
  const visit = (root) => {
    const stack = [[root, 0]];
    state.set(root, "open");
    while (stack.length) {
      const top = stack[stack.length - 1];
      const targets = out.get(top[0]);
      if (top[1] === targets.length) {
        state.set(top[0], "done");
        stack.pop();
        continue;
      }
      const target = targets[top[1]++];
      if (state.get(target) === "open") continue;
      forward.push([top[0], target]);
      if (!state.has(target)) {
        state.set(target, "open");
        stack.push([target, 0]);
      }
    }
  };
  const roots = [...names].sort((a, b) => Math.min(1, incoming.get(a)) - Math.min(1, incoming.get(b)) || (a < b ? -1 : 1));
  for (const name of roots) if (!state.has(name)) visit(name);
  return forward;
}

function longestPaths(names, forward) {
  const ranks = new Map(names.map((name) => [name, 0]));
  const incoming = new Map(names.map((name) => [name, 0]));
  const out = new Map(names.map((name) => [name, []]));
  for (const [from, to] of forward) {
    out.get(from).push(to);
    incoming.set(to, incoming.get(to) + 1);
  }
  const ready = names.filter((name) => !incoming.get(name));
  while (ready.length) {
    const name = ready.shift();
    for (const target of out.get(name)) {
      ranks.set(target, Math.max(ranks.get(target), ranks.get(name) + 1));
      incoming.set(target, incoming.get(target) - 1);
      if (!incoming.get(target)) ready.push(target);
    }
  }
  // A service without calls in stands just left of what it calls, not at the far left.
  const clients = "(clients)";
  for (const name of names) {
    if (ranks.get(name) || name === clients || !out.get(name).length) continue;
    const nearest = Math.min(...out.get(name).map((target) => ranks.get(target)));
    ranks.set(name, Math.max(0, nearest - 1));
  }
  // Services without any calls stand at the left, below the others.
  return ranks;
}

function columnsOf(names, ranks, edges, heights) {
  const byRank = [];
  for (const name of names) (byRank[ranks.get(name)] ||= []).push(name);
  const columns = [];
  const at = new Map();
  for (const members of byRank) {
    let tall = Infinity;
    for (const name of members || []) {
      if (tall + heights.get(name) > TALLEST) {
        columns.push([]);
        tall = 0;
      }
      tall += heights.get(name) + CARD.gapY;
      at.set(name, columns.length - 1);
      columns[columns.length - 1].push({key: name, height: heights.get(name), neighbours: []});
    }
  }
  const items = new Map(columns.flat().map((item) => [item.key, item]));
  const chains = new Map();
  for (const edge of edges) {
    const from = at.get(edge.from), to = at.get(edge.to);
    if (from === undefined || to === undefined) continue;
    const chain = [items.get(edge.from)];
    for (let column = from + 1; column < to; column++) {
      const lane = {key: `${edge.key} ${column}`, height: CARD.lane, isLane: true, neighbours: []};
      columns[column].push(lane);
      chain.push(lane);
    }
    chain.push(items.get(edge.to));
    for (let index = 1; index < chain.length; index++) {
      chain[index].neighbours.push(chain[index - 1]);
      chain[index - 1].neighbours.push(chain[index]);
    }
    chains.set(edge.key, chain);
  }
  columns.forEach((column, index) => column.forEach((item) => { item.column = index; }));
  return {columns, chains};
}

function order(columns) {
  const number = () => columns.forEach((column) => {
    const total = column.reduce((height, item) => height + item.height + CARD.gapY, 0);
    let y = -total / 2;
    for (const item of column) {
      item.y = y + item.height / 2;
      y += item.height + CARD.gapY;
    }
  });
  number();
  for (let sweep = 0; sweep < SWEEPS; sweep++) {
    const isForward = sweep % 2 === 0;
    const sequence = isForward ? columns : [...columns].reverse();
    for (const column of sequence) {
      for (const item of column) {
        const side = item.neighbours.filter((other) => isForward ? other.column < item.column : other.column > item.column);
        item.wish = side.length ? side.reduce((total, other) => total + other.y, 0) / side.length : item.y;
      }
      column.sort((a, b) => a.wish - b.wish || (a.key < b.key ? -1 : 1));
      number();
    }
  }
}

function place(columns) {
  const {width, gapX, gapY, margin} = CARD;
  const tops = columns.map((column) => {
    // Towards its neighbours, as far as the order allows.
    let y = -Infinity;
    const wished = column.map((item) => {
      const left = item.neighbours.filter((other) => other.column < item.column);
      return left.length ? left.reduce((total, other) => total + other.y, 0) / left.length : item.y;
    });
    column.forEach((item, index) => {
      item.y = Math.max(wished[index], y + item.height / 2);
      y = item.y + item.height / 2 + gapY;
    });
    // Back to the middle of where they wanted to be.
    const drift = column.length ? column.reduce((total, item, index) => total + item.y - wished[index], 0) / column.length : 0;
    column.forEach((item) => { item.y -= drift; });
    return Math.min(...column.map((item) => item.y - item.height / 2));
  });
  const top = Math.min(...tops, 0);
  const boxes = new Map();
  let bottom = 0;
  columns.forEach((column, index) => column.forEach((item) => {
    const box = {x: margin + index * (width + gapX), y: Math.round(item.y - item.height / 2 - top + margin), width, height: item.height};
    boxes.set(item.key, box);
    bottom = Math.max(bottom, box.y + box.height);
  }));
  return {boxes, width: Math.max(1, columns.length) * (width + gapX) - gapX + 2 * margin, height: bottom + margin};
}

function route(edges, chains, boxes) {
  const leaving = new Map(), arriving = new Map();
  for (const edge of edges) {
    const chain = chains.get(edge.key);
    if (!chain) continue;
    push(leaving, edge.from, {key: edge.key, y: middle(boxes.get(chain[1].key))});
    push(arriving, edge.to, {key: edge.key, y: middle(boxes.get(chain[chain.length - 2].key))});
  }
  const ports = (ends) => {
    const found = new Map();
    for (const [name, list] of ends) {
      const box = boxes.get(name);
      list.sort((a, b) => a.y - b.y || (a.key < b.key ? -1 : 1));
      const space = Math.min(30, (box.height - 24) / list.length);
      list.forEach((end, index) => found.set(end.key, middle(box) + (index - (list.length - 1) / 2) * space));
    }
    return found;
  };
  const from = ports(leaving), to = ports(arriving);
  const paths = new Map();
  const labels = new Map();
  for (const edge of edges) {
    const chain = chains.get(edge.key);
    if (!chain) continue;
    const {path, label, gap} = curve(chain, boxes, from.get(edge.key), to.get(edge.key));
    const told = {path, x: label.x, y: label.y};
    paths.set(edge.key, told);
    push(labels, gap, told);
  }
  for (const list of labels.values()) spread(list);
  return paths;
}

function curve(chain, boxes, startY, endY) {
  const first = boxes.get(chain[0].key), last = boxes.get(chain[chain.length - 1].key);
  let x = first.x + first.width, y = startY;
  const endX = last.x;
  if (endX <= x) {
    // Back, or within its column: around the right side.
    const reach = 70 + Math.abs(endY - startY) * 0.1;
    const isSame = last.x === first.x;
    const toX = isSame ? last.x + last.width : endX;
    const path = `M${x},${y} C${x + reach},${y} ${toX + (isSame ? reach : -reach)},${endY} ${toX + (isSame ? 8 : -8)},${endY}`;
    return {path, label: {x: isSame ? x + reach * 0.8 : (x + toX) / 2, y: (y + endY) / 2}, gap: `back ${first.x}`};
  }
  let path = `M${x},${y}`;
  for (const item of chain.slice(1, -1)) {
    const box = boxes.get(item.key), laneY = middle(box), half = (box.x - x) / 2;
    path += ` C${x + half},${y} ${box.x - half},${laneY} ${box.x},${laneY} H${box.x + box.width}`;
    x = box.x + box.width;
    y = laneY;
  }
  const half = (endX - x) / 2;
  path += ` C${x + half},${y} ${endX - half},${endY} ${endX - 8},${endY}`;
  return {path, label: {x: x + half, y: (y + endY) / 2}, gap: String(endX)};
}

// Labels between the same two columns do not lie on each other.
function spread(list) {
  const least = 34;
  list.sort((a, b) => a.y - b.y);
  const wished = list.map((one) => one.y);
  for (let index = 1; index < list.length; index++) {
    if (list[index].y - list[index - 1].y < least && Math.abs(list[index].x - list[index - 1].x) < 110) {
      const missing = least - (list[index].y - list[index - 1].y);
      list[index].y += missing;
    }
  }
  const drift = list.reduce((total, one, index) => total + one.y - wished[index], 0) / list.length;
  for (const one of list) one.y -= drift;
}

function middle(box) {
  return box.y + box.height / 2;
}

function push(lists, key, value) {
  if (!lists.has(key)) lists.set(key, []);
  lists.get(key).push(value);
}
