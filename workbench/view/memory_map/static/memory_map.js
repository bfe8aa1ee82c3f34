/* SPDX-License-Identifier: GPL-2.0-only */
/* The memory map in the browser: it draws what the kernel answers, and asks for what is to be seen next.
 *
 * One question is on its way at a time; what is wanted meanwhile is asked for when the answer has been drawn.  The
 * first one names no view: the kernel says what is shown.  What a late answer would have brought is asked for again.
 * Words and bits of the struct page at hand are here already: they are drawn at once, and the kernel is told after.
 * `data-asked` counts what was asked for; `data-drawn` follows it when all of that is on the screen.
 * Strips are canvases; struct pages, inspector and bits are HTML, so that they can be read aloud and selected.  What
 * stays as it is is not made anew, and nothing waits for a layout: the width is told by an observer.
 */
const WORDS = 8, GUTTER = 150, STRIP_PX = 26, LANE_PX = 15, FEWEST_PX = 2, SHORTEST = 64;
const PARTS = ["device", "zoom", "run", "page", "player"];
const PRIORITY = ["head", "first_tail", "second_tail"];
const TELL_MS = 50, LONGEST_MS = 5000;
const SPEEDS = [["1 a second", 1000], ["5 a second", 200], ["20 a second", 50], ["as fast as it goes", 0]];

const hex = (n) => "0x" + n.toString(16);
const clamp = (x, lo, hi) => Math.max(lo, Math.min(hi, x));
let views = 0;

/** Set an attribute or the text of a node where that changes it. */
const set = (node, name, value) => { if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value); };
const put = (node, text) => { if (node.put !== text) node.textContent = node.put = text; };
const flag = (node, name, on) => { if (node.classList.contains(name) !== on) node.classList.toggle(name, on); };

/** An element with properties, attributes (names with a dash or "role") and children. */
function make(tag, options = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(options)) {
    if (name === "role" || name.includes("-")) node.setAttribute(name, value);
    else if (name === "style") node.style.cssText = value;
    else node[name] = value;
  }
  node.append(...children);
  return node;
}

function render({ model, el }) {
  const facts = model.get("facts"), view = ++views;
  const layers = Object.fromEntries(facts.layers.map((layer) => [layer.key, layer]));
  let at = null, good = null, sent = null, text = "", told = "", seq = 0, asked = 0, busy = 0, telling = 0;
  let timer = 0, playing = 0, last = {}, wide = 0, look = {}, seen = [], pfns = [], awaited = [];
  const want = new Set(), inks = {};

  // ── what is on the screen ──────────────────────────────────────────────────────────────────────────────────────
  const line = make("input", { type: "text", spellcheck: false, "aria-label": "this view as text; type another one to go there", className: "mm-state" });
  const copy = make("button", { type: "button", textContent: "copy" });
  const layer = make("select", { "aria-label": "layer of the strips" },
    ...facts.layers.map((one) => make("option", { value: one.key, textContent: one.label })));
  const legend = make("span", { className: "mm-legend", role: "list", "aria-label": "legend" });
  const device = strip("device", "range of the device shown below");
  const zoom = strip("zoom", "place of the selected compound page in the range");
  const wedge = [wedgeBox(), wedgeBox()];
  const runTitle = heading(), grid = make("table", { role: "grid", className: "mm-grid", "aria-label": "struct pages word by word" });
  const pageTitle = heading(), page = make("table", { className: "mm-page" });
  const bitsTitle = heading("code"), bits = make("div", { className: "mm-bits", role: "slider", tabIndex: 0, "aria-label": "bit of the word", "aria-valuemin": 0, "aria-valuemax": 63 });
  const above = make("div", { className: "mm-spans", "aria-hidden": "true" }), below = make("div", { className: "mm-marks", "aria-hidden": "true" });
  const ticks = make("div", { className: "mm-ticks", "aria-hidden": "true" },
    ...[63, 56, 48, 40, 32, 24, 16, 8, 0].map((bit) => make("span", { style: `left:${((63.5 - bit) / 64) * 100}%`, textContent: bit })));
  const player = makePlayer();
  const said = make("p", { role: "status", "aria-live": "polite", className: "mm-said" });
  const wrong = make("p", { role: "alert", className: "mm-wrong", hidden: true });
  const root = make("section", { className: "mm", role: "group", "aria-label": `Memory map of ${facts.name}, ${facts.title}` },
    make("div", { className: "mm-top" },
      make("div", { className: "mm-name" }, make("strong", { textContent: facts.name }), make("span", { textContent: facts.title })),
      make("div", { className: "mm-view" }, line, copy)),
    make("div", { className: "mm-row" }, make("label", {}, "show ", layer), legend),
    device.box, wedge[0], zoom.box, wedge[1],
    make("div", { className: "mm-middle" },
      make("div", {}, runTitle.node, make("div", { className: "mm-scroll" }, grid)),
      make("div", {}, pageTitle.node, make("div", { className: "mm-scroll" }, page))),
    make("div", { className: "mm-word" }, bitsTitle.node, above, bits, ticks, below),
    player.box, said, wrong);
  let heads = [], cells = [], folded = null;
  const caption = make("caption"), rows = Array.from({ length: WORDS }, (_, w) => {
    const raw = make("code"), old = make("small"), was = make("span", { hidden: true }, make("br"), old), long = make("td"), by = make("td", { className: "mm-by" });
    const node = make("tr", { onclick: () => go({ word: w, bit: 0 }) }, make("th", { scope: "row", textContent: `+${8 * w}` }), make("td", {}, raw, was), long, by);
    return { node, raw, was, old, long, by };
  });
  page.append(caption, make("tr", {}, ...["", "8 bytes", "members", "written last by"].map((name) => make("th", { scope: "col", textContent: name }))), ...rows.map((row) => row.node));
  const boxes = Array.from({ length: 64 }, (_, k) => make("span", { "data-bit": 63 - k, "aria-hidden": "true" }));
  bits.append(...boxes);
  for (const [role, [fill, outline]] of Object.entries(facts.roles)) {
    root.style.setProperty(`--role-${role}`, fill);
    root.style.setProperty(`--line-${role}`, outline);
  }
  el.replaceChildren(root);

  function heading(tag = "small") {
    const [name, aside] = [make("span"), make(tag)];
    return { node: make("h4", {}, name, aside), say: (what, more) => { put(name, what); put(aside, more); } };
  }

  function strip(part, label) {
    const title = heading(), canvas = make("canvas", {
      tabIndex: 0, role: "slider", "aria-label": label, "aria-valuemin": facts.start, "aria-valuemax": facts.end });
    const box = make("div", { className: "mm-strip" }, title.node, canvas);
    return { part, box, title, canvas, picture: document.createElement("canvas"), data: null };
  }

  function wedgeBox() {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("class", "mm-wedge");
    svg.setAttribute("aria-hidden", "true");
    svg.setAttribute("preserveAspectRatio", "none");
    svg.append(document.createElementNS(svg.namespaceURI, "polygon"));
    return svg;
  }

  function makePlayer() {
    const button = (sign, label, act) => make("button", { type: "button", textContent: sign, title: label, "aria-label": label, onclick: act });
    const names = make("select", { "aria-label": "operation" });
    const slider = make("input", { type: "range", min: 0, "aria-label": "store" });
    const speed = make("select", { "aria-label": "speed" }, ...SPEEDS.map(([name, ms]) => make("option", { value: ms, textContent: name })));
    speed.selectedIndex = 1;
    const play = button("▶", "play", () => (playing ? stop() : start()));
    const now = button("as it is", "leave the operation: show the struct pages as they are now", () => go({ step: -1 }));
    const count = make("span", { className: "mm-count" }), what = make("code"), done = make("div", { className: "mm-done" });
    const box = make("div", { className: "mm-player", role: "group", "aria-label": "trace player" },
      make("h4", { textContent: "Play an operation, store by store" }), names,
      make("div", { className: "mm-row" },
        button("|‹", "before the first store", () => stepTo(0)), button("‹", "one store back", () => stepBy(-1)), play,
        button("›", "one store on", () => stepBy(1)), button("›|", "after the last store", () => stepTo(Infinity)), now, slider, speed),
      make("div", {}, count), make("div", { className: "mm-store" }, what), done);
    names.onchange = () => { stop(); go({ op: names.selectedIndex, step: 0 }); };
    slider.oninput = () => stepTo(+slider.value);
    return { box, names, slider, speed, play, now, count, what, done };
  }

  // ── asking and answering ───────────────────────────────────────────────────────────────────────────────────────
  function stateText() {
    const first = at.pfn - (at.pfn % facts.section), own = [Math.max(first, facts.start), Math.min(first + facts.section, facts.end)];
    return `tree=${facts.tree}/pgmap=${facts.pgmap}/pfn=${hex(at.pfn)}/word=${at.word}` + (at.bit ? `/bit=${at.bit}` : "") +
      (at.lo === own[0] && at.hi === own[1] ? "" : `/zoom=${hex(at.lo)}-${hex(at.hi - 1)}`) +
      (at.layer === "roles" ? "" : `/layer=${at.layer}`) + (at.step < 0 ? "" : (at.op ? `/op=${at.op}` : "") + `/step=${at.step}`);
  }

  function ask(parts, more) {
    parts.forEach((part) => want.add(part));
    if (more) ask.more = more;
    root.dataset.asked = ++asked;
    if (!waiting()) send();
  }

  const waiting = () => busy && performance.now() - busy < LONGEST_MS;
  const changed = () => text !== told || want.size > 0;

  /** Say what is shown and ask for what is wanted. */
  function send() {
    clearTimeout(telling);
    if (busy) awaited.forEach((part) => want.add(part));
    const question = { seq: ++seq, view, parts: awaited = [...want], bins: wide, ...(text && { state: text }), ...ask.more };
    busy = want.size && performance.now();
    want.clear();
    ask.more = null;
    told = text;
    sent = at && { ...at };
    model.send(question);
  }

  /** All that is wanted is on the screen: the kernel hears of it when the frame is over. */
  function complete() {
    root.dataset.drawn = asked;
    clearTimeout(telling);
    if (text !== told) telling = setTimeout(send, TELL_MS);
  }

  /** Change what is shown, and ask for what that changes. */
  function go(change, more) {
    if (!at) return;
    const was = { ...at };
    Object.assign(at, change);
    if (at.pfn !== was.pfn && (at.pfn < at.lo || at.pfn >= at.hi)) {
      const span = at.hi - at.lo;
      at.lo = clamp(at.pfn - Math.floor(span / 2), facts.start, facts.end - span);
      at.hi = at.lo + span;
    }
    text = stateText();
    const parts = new Set();
    if (at.layer !== was.layer) parts.add("device").add("zoom");
    if (at.lo !== was.lo || at.hi !== was.hi) parts.add("zoom");
    // A struct page that is drawn already needs its words taken apart, no more.
    const drawn = !more && at.step < 0 && pfns.length <= 8 && pfns.includes(at.pfn);
    if (at.pfn !== was.pfn || more?.snap !== undefined) (drawn ? ["page"] : ["run", "page", "player"]).forEach((part) => parts.add(part));
    if (at.step !== was.step || at.op !== was.op) ["run", "page", "player"].forEach((part) => parts.add(part));
    mark();
    if (at.pfn === last.page.pfn && (at.word !== was.word || at.bit !== was.bit)) drawWord();
    if (parts.size || more) { ask([...parts], more); return; }
    line.value = text;
    root.dataset.asked = ++asked;
    if (!waiting()) complete();
  }

  /** Go to a line that was given: nothing can be changed until it is there. */
  function goTo(given) {
    stop();
    text = given;
    at = null;
    ask(PARTS);
  }

  /** Take over what the answer says of the state, but for what was changed since the question. */
  function adopt(message) {
    if (!at) at = { ...message.at };
    else {
      for (const key of Object.keys(at)) if (at[key] === sent[key]) at[key] = message.at[key];
      if (changed()) text = stateText();
    }
    if (changed()) return;
    good = { ...at };
    text = told = line.value = message.state;
    layer.value = at.layer;
  }

  function answered(message, buffers) {
    if (message.kind === "go") { goTo(message.state); return; }
    if (message.view !== view || message.seq !== seq) return;
    busy = 0;
    wrong.hidden = !message.error;
    put(wrong, message.error || "");
    if (message.error) {
      stop();
      if (!changed()) {
        at = good && { ...good };
        text = told = line.value = message.state;
        if (at) { mark(); drawWord(); }
      }
    } else if (at || !sent) { // else another line was given meanwhile
      adopt(message);
      Object.assign(last, message);
      const arrays = buffers.map((one) => one instanceof DataView
        ? new Uint32Array(one.buffer.slice(one.byteOffset, one.byteOffset + one.byteLength)) : new Uint32Array(one));
      for (const one of [device, zoom]) if (message[one.part]) one.data = { ...message[one.part], layer: message.at.layer, arrays };
      if (message.run) drawRun(message.run);
      if (message.page) drawPage(message.page);
      if (message.player) drawPlayer(message.player);
      if (message.device) { readTheme(); lookOver(); }
      for (const one of [device, zoom]) if (message[one.part]) paint(one);
      if (message.device || message.zoom || message.run) frame();
    }
    if (want.size) { send(); return; }
    complete();
    if (playing && message.player) next(message.player);
  }

  // ── strips ─────────────────────────────────────────────────────────────────────────────────────────────────────
  const toX = (pfn, lo, hi) => GUTTER + ((pfn - lo) / (hi - lo)) * wide;
  const toPfn = (x, lo, hi) => clamp(Math.floor(lo + ((x - GUTTER) / wide) * (hi - lo)), lo, hi - 1);

  function readTheme() {
    const style = getComputedStyle(root);
    for (const name of ["ink", "paper", "line", "brand"]) look[name] = style.getPropertyValue(`--mm-${name}`);
  }

  function themed() {
    readTheme();
    for (const one of [device, zoom]) if (one.data) paint(one);
    if (at) frame();
  }

  /** Which lanes any page of the device is in: they are drawn, and stand in the legend. */
  function lookOver() {
    const lanes = layers[device.data.layer].lanes, roles = device.data.layer === "roles", found = new Set();
    for (const [, buffer] of device.data.rows) device.data.arrays[buffer].forEach((pages, k) => { if (pages) found.add(k % lanes.length); });
    seen = [...found].sort((a, b) => a - b);
    legend.replaceChildren(...lanes.flatMap(([label, role], k) => {
      if (!found.has(k) || (!roles && !role)) return [];
      return [make("span", { role: "listitem" }, make("i", { className: `mm-swatch ${patternOf(role)}`, style: `background-color:var(--role-${role});border-color:var(--line-${role})` }), label)];
    }), ...(facts.before ? [make("span", { role: "listitem" }, make("i", { className: "mm-swatch mm-differs" }), "differs before | after")] : []));
  }

  /** Lay the frames over the strips: the range in the device, the compound page in the range. */
  function frame() {
    if (!device.data || !zoom.data) return;
    const run = last.run || { pfn: at.pfn, pages: 1, text: "" };
    stamp(device, at.lo, at.hi);
    stamp(zoom, run.pfn, run.pfn + run.pages);
    device.title.say("1  the device", `${device.data.ends[0]} to ${device.data.ends[1]}; framed: ${zoom.data.size} at ${zoom.data.ends[0]}`);
    zoom.title.say(`2  ${zoom.data.size} of it`, `${at.layer === "roles" ? `heads and first tails at least ${FEWEST_PX} px, not to scale` : "the darker, the more of the pages there"} · drag or ← → move · + − zoom · Home all · Enter inside`);
    set(device.canvas, "aria-valuenow", at.lo);
    set(device.canvas, "aria-valuetext", zoom.data.text);
    set(zoom.canvas, "aria-valuenow", at.pfn);
    set(zoom.canvas, "aria-valuetext", run.text);
    point(wedge[0], toX(at.lo, facts.start, facts.end), toX(at.hi, facts.start, facts.end), GUTTER);
    const [lo, hi] = [Math.max(run.pfn, at.lo), Math.min(run.pfn + run.pages, at.hi)];
    if (hi > lo) point(wedge[1], toX(lo, at.lo, at.hi), toX(hi, at.lo, at.hi), 0);
    else set(wedge[1].firstChild, "points", "");
  }

  function point(svg, left, right, start) {
    const end = GUTTER + wide, x = (px) => clamp(px, 0, end);
    set(svg, "viewBox", `0 0 ${end} 14`);
    set(svg.firstChild, "points", `${x(left)},0 ${Math.max(x(right), x(left) + 2)},0 ${end},14 ${start},14`);
  }

  const patternOf = (role) => ({ "/": "mm-hatched", "x": "mm-crossed", ".": "mm-dotted" })[(facts.roles[role] || [])[2]] || "";

  /** Draw a strip, all but its frame. */
  function paint(one) {
    const { data, picture } = one, roles = data.layer === "roles", lanes = layers[data.layer].lanes, rows = data.rows.length;
    const rowPx = roles ? STRIP_PX : seen.length * LANE_PX, gap = data.differs === undefined ? 4 : 12;
    const ratio = window.devicePixelRatio || 1;
    picture.width = (GUTTER + wide + 2) * ratio;
    picture.height = (rows * rowPx + (rows - 1) * gap + 8) * ratio;
    const pen = picture.getContext("2d");
    pen.scale(ratio, ratio);
    pen.font = "11px DejaVu Sans, Verdana, sans-serif";
    pen.textBaseline = "middle";
    data.rows.forEach(([name, buffer], k) => {
      const top = 4 + k * (rowPx + gap), counts = data.arrays[buffer];
      const which = name === "before" ? facts.before : name === "after" ? facts.tree : "";
      pen.fillStyle = look.ink;
      if (roles) {
        pen.fillText(name ? `${name}: ${which}` : facts.tree, 2, top + rowPx / 2, GUTTER - 8);
        drawRoles(pen, counts, data.bins, lanes, top, rowPx);
      } else drawLanes(pen, counts, data, lanes, top, name);
      pen.strokeStyle = look.line;
      pen.lineWidth = 1;
      pen.strokeRect(GUTTER + 0.5, top + 0.5, wide - 1, rowPx - 1);
    });
    if (data.differs !== undefined) {
      const differs = data.arrays[data.differs], top = 4 + rowPx + 3;
      pen.fillStyle = look.ink;
      alike(data.bins, (bin) => (differs[bin] ? "differs" : ""), (x, across) => pen.fillRect(x, top, Math.max(across, 1), gap - 6));
      pen.fillText("differs", 2, top + 3, GUTTER - 8);
    }
  }

  /** Put a strip on the screen, with a frame from lo to hi if that is on it. */
  function stamp(one, lo, hi) {
    const { data, canvas, picture } = one, ratio = window.devicePixelRatio || 1, pen = canvas.getContext("2d");
    if (canvas.width !== picture.width || canvas.height !== picture.height) {
      canvas.width = picture.width;
      canvas.height = picture.height;
      canvas.style.width = picture.width / ratio + "px";
      canvas.style.height = picture.height / ratio + "px";
    }
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.clearRect(0, 0, canvas.width, canvas.height);
    pen.drawImage(picture, 0, 0);
    if (hi <= data.start || lo >= data.end) return;
    pen.scale(ratio, ratio);
    const left = toX(clamp(lo, data.start, data.end), data.start, data.end), right = toX(clamp(hi, data.start, data.end), data.start, data.end);
    const across = Math.max(right - left, 6), from = clamp((left + right - across) / 2, GUTTER, GUTTER + wide - across);
    for (const [colour, width] of [[look.paper, 5], [look.brand, 2.5]]) {
      pen.strokeStyle = colour;
      pen.lineWidth = width;
      pen.strokeRect(from, 1.5, across, canvas.height / ratio - 3);
    }
  }

  /** Call draw(x, width, key, first bin) once for neighbouring bins that have the same key, unless it is empty. */
  function alike(bins, keyOf, draw) {
    const x = (bin) => Math.round(GUTTER + (bin * wide) / bins);
    for (let bin = 0, end; bin < bins; bin = end) {
      const key = keyOf(bin);
      for (end = bin + 1; end < bins && keyOf(end) === key;) end++;
      if (key) draw(x(bin), x(end) - x(bin), key, bin);
    }
  }

  /** A bin that holds many compounds is a stack of its roles; where compounds can be told apart they are drawn. */
  function drawRoles(pen, counts, bins, lanes, top, height) {
    const n = lanes.length, cell = wide / bins;
    const heads = lanes.findIndex((lane) => lane[1] === "head");
    let headBins = 0;
    for (let bin = 0; bin < bins; bin++) headBins += counts[bin * n + heads];
    const apart = !headBins || (bins * cell) / headBins >= 8;
    const stacks = Array.from({ length: bins }, (_, bin) => {
      const mine = [];
      let total = 0;
      for (let k = 0; k < n; k++) if (counts[bin * n + k]) { mine.push(k); total += counts[bin * n + k]; }
      if (apart && mine.length) return `${mine.reduce((a, b) => (counts[bin * n + b] > counts[bin * n + a] ? b : a))}:${height}`;
      const spare = height - FEWEST_PX * mine.length;
      let sum = 0;
      return mine.map((k, number) => `${k}:${Math.round(FEWEST_PX * (number + 1) + (spare * (sum += counts[bin * n + k])) / total)}`).join();
    });
    alike(bins, (bin) => stacks[bin], (x, across, stack) => {
      let from = 0;
      for (const part of stack.split(",")) {
        const [lane, to] = part.split(":").map(Number);
        fill(pen, lanes[lane][1], x, top + from, across, to - from);
        from = to;
      }
    });
    if (!apart) return;
    for (let bin = 0; bin < bins; bin++) {
      let x = Math.round(GUTTER + bin * cell);
      lanes.forEach(([, role], k) => {
        if (!PRIORITY.includes(role) || !counts[bin * n + k]) return;
        fill(pen, role, x, top, Math.max(Math.round(cell), FEWEST_PX), height);
        x += FEWEST_PX;
      });
    }
    if (cell >= 5) {
      pen.strokeStyle = look.line; pen.lineWidth = 1;
      for (let bin = 1; bin < bins; bin++) pen.strokeRect(GUTTER + bin * cell, top, 0, height);
    }
  }

  function fill(pen, role, x, y, across, tall) {
    const [colour, outline, pattern] = facts.roles[role];
    pen.fillStyle = pattern ? (inks[role] ??= pen.createPattern(tile(colour, outline, pattern), "repeat")) : colour;
    pen.fillRect(x, y, across, tall);
  }

  /** What a role with a pattern is filled with: strokes that rise, or dots. */
  function tile(colour, outline, pattern) {
    const side = pattern === "/" ? 7 : 5, one = make("canvas", { width: side, height: side }), pen = one.getContext("2d");
    pen.fillStyle = colour;
    pen.fillRect(0, 0, side, side);
    pen.fillStyle = outline;
    for (let x = 0; x < (pattern === "/" ? side : 1); x++) pen.fillRect(x, (side - x) % side, 1, 1);
    return one;
  }

  /** One line a lane; how dark it is says how many of the bin's pages are in it. */
  function drawLanes(pen, counts, data, lanes, top, name) {
    const n = lanes.length, { bins, layer: shown } = data, cell = wide / bins;
    seen.forEach((k, row) => {
      const y = top + row * LANE_PX, role = lanes[k][1];
      pen.globalAlpha = 1;
      pen.fillStyle = look.ink;
      pen.fillText((name ? name + ": " : "") + lanes[k][0].replace("PG_", ""), 2, y + LANE_PX / 2, GUTTER - 8);
      pen.fillStyle = role ? facts.roles[role][0] : look.ink;
      const dark = (bin) => {
        const mine = counts[bin * n + k];
        if (!mine || role) return mine && 1;
        let total = 0;
        for (let j = 0; j < n; j++) total = shown === "flags" ? Math.max(total, counts[bin * n + j]) : total + counts[bin * n + j];
        return 0.3 + 0.6 * (mine / total);
      };
      alike(bins, dark, (x, across, alpha) => {
        pen.globalAlpha = alpha;
        pen.fillRect(x, y + 2, Math.max(across, FEWEST_PX), LANE_PX - 4);
      });
      pen.globalAlpha = 1;
    });
  }

  // ── brush ──────────────────────────────────────────────────────────────────────────────────────────────────────
  function zoomTo(lo, hi) {
    const span = clamp(Math.round(hi - lo), Math.min(SHORTEST, facts.end - facts.start), facts.end - facts.start);
    lo = clamp(Math.round(lo), facts.start, facts.end - span);
    go({ lo, hi: lo + span });
  }

  function scale(factor, centre) {
    const share = (centre - at.lo) / (at.hi - at.lo), span = (at.hi - at.lo) * factor;
    zoomTo(centre - share * span, centre + (1 - share) * span);
  }

  device.canvas.onpointerdown = (event) => {
    if (!at || event.button) return;
    device.canvas.setPointerCapture(event.pointerId);
    const began = toPfn(event.offsetX, facts.start, facts.end), span = at.hi - at.lo, from = at.lo;
    const frame = [toX(at.lo, facts.start, facts.end) - 4, toX(at.hi, facts.start, facts.end) + 4];
    const inside = event.offsetX >= frame[0] && event.offsetX <= frame[1], first = event.offsetX;
    device.canvas.onpointermove = (moved) => {
      const here = toPfn(moved.offsetX, facts.start, facts.end);
      if (inside) zoomTo(from + here - began, from + here - began + span);
      else if (Math.abs(moved.offsetX - first) > 3) zoomTo(Math.min(began, here), Math.max(began, here) + 1);
    };
    device.canvas.onpointerup = device.canvas.onpointercancel = (done) => {
      device.canvas.onpointermove = device.canvas.onpointerup = null;
      if (!inside && Math.abs(done.offsetX - first) <= 3) zoomTo(began - span / 2, began + span / 2);
    };
  };
  zoom.canvas.onpointerdown = (event) => {
    if (!at || event.button) return;
    zoom.canvas.setPointerCapture(event.pointerId);
    const { lo, hi } = at, per = (hi - lo) / wide, first = event.offsetX;
    zoom.canvas.onpointermove = (moved) => {
      if (Math.abs(moved.offsetX - first) > 3) zoomTo(lo - (moved.offsetX - first) * per, hi - (moved.offsetX - first) * per);
    };
    zoom.canvas.onpointerup = zoom.canvas.onpointercancel = (done) => {
      zoom.canvas.onpointermove = zoom.canvas.onpointerup = null;
      if (Math.abs(done.offsetX - first) <= 3) select(toPfn(done.offsetX, lo, hi), per > 1);
    };
  };
  for (const one of [device, zoom]) one.canvas.addEventListener("wheel", (event) => {
    if (!at || (!event.ctrlKey && document.activeElement !== one.canvas)) return;
    event.preventDefault();
    const around = one === zoom ? toPfn(event.offsetX, at.lo, at.hi) : (at.lo + at.hi) / 2;
    scale(event.deltaY > 0 ? 1.25 : 0.8, around);
  }, { passive: false });

  /** Select a struct page; from afar it is the same one of the compound page that lies there. */
  function select(pfn, afar) {
    const inside = at.pfn - last.run?.pfn;
    if (inside >= 0 && inside < last.run.pages) select.snap = inside; // else the answer to the last selection is on its way
    go({ pfn, step: -1 }, afar && last.run ? { snap: select.snap } : undefined);
  }

  const stripKeys = {
    "+": () => scale(0.5, at.pfn >= at.lo && at.pfn < at.hi ? at.pfn : (at.lo + at.hi) / 2),
    "-": () => scale(2, (at.lo + at.hi) / 2),
    Home: () => zoomTo(facts.start, facts.end),
    Enter: () => focusCell(),
  };
  stripKeys["="] = stripKeys["+"];
  keys(device.canvas, {
    ...stripKeys,
    ArrowLeft: () => zoomTo(at.lo - (at.hi - at.lo), at.lo), ArrowRight: () => zoomTo(at.hi, at.hi + at.hi - at.lo),
    End: () => zoomTo(facts.end - (at.hi - at.lo), facts.end), Enter: () => select(at.lo, true),
  });
  keys(zoom.canvas, {
    ...stripKeys,
    ArrowLeft: () => select(Math.max(last.run.pfn - 1, facts.start), true),
    ArrowRight: () => select(Math.min(last.run.pfn + last.run.pages, facts.end - 1), true),
  });

  function keys(node, acts) {
    node.addEventListener("keydown", (event) => {
      const act = !event.altKey && !event.metaKey && !event.ctrlKey && acts[event.key];
      if (!act || !at) return;
      event.preventDefault();
      event.stopPropagation(); // JupyterLab has keys of its own
      act();
    });
  }

  // ── struct pages ───────────────────────────────────────────────────────────────────────────────────────────────
  function drawRun(run) {
    const { columns } = run, focused = grid.contains(document.activeElement), foldAt = run.fold ? Math.min(columns.length, 8) : -1;
    runTitle.say(`3  ${run.text}`, "the first struct pages wide; a cell is 8 bytes");
    if (drawRun.shape !== `${columns.length} ${foldAt}`) {
      drawRun.shape = `${columns.length} ${foldAt}`;
      heads = columns.map(() => make("th"));
      cells = columns.map(() => Array.from({ length: WORDS }, () => make("td")));
      folded = make("td");
      const head = make("tr", { role: "row" }, make("td", { role: "presentation" }), ...heads);
      const rows = Array.from({ length: WORDS }, (_, w) => make("tr", { role: "row" },
        make("th", { role: "rowheader", scope: "row", textContent: `+${8 * w}` }), ...cells.map((column) => column[w])));
      if (foldAt >= 0) {
        head.insertBefore(make("td", { role: "presentation" }), head.children[foldAt + 1] || null);
        rows[0].insertBefore(folded, rows[0].children[foldAt + 1] || null);
      }
      grid.replaceChildren(make("thead", { role: "rowgroup" }, head), make("tbody", { role: "rowgroup" }, ...rows));
    }
    pfns = columns.map((column) => column.pfn);
    columns.forEach((column, k) => {
      heads[k] = renewed(heads[k], [column.role, column.page, column.label], () => columnHead(column));
      cells[k].forEach((node, w) => {
        cells[k][w] = renewed(node, column.changed === w ? {} : [k, column.role, column.page, column.label, column.short[w], wasOf(column, w), column.differs.includes(w)], () => cell(column, k, w));
        const was = wasOf(column, w);
        set(cells[k][w], "title", `${column.raw[w]}${was ? `, was ${was}` : ""}`);
      });
    });
    if (foldAt >= 0) folded = renewed(folded, [run.fold, run.alike, run.unlike], () => fold(run));
    mark();
    if (focused) focusCell();
  }

  /** The node, or another one in its place if what it shows is not the same; an object is never the same. */
  function renewed(node, shows, build) {
    const key = Array.isArray(shows) ? shows.join("\n") : shows;
    if (node.shows === key) return node;
    const other = build();
    other.shows = key;
    node.replaceWith(other);
    return other;
  }

  const columnHead = (column) => make("th", { role: "columnheader", scope: "col", className: "mm-column", style: `--c:var(--role-${column.role})` },
    make("i", { className: patternOf(column.role) }), `page ${column.page.toLocaleString("en")}`, make("br"), column.label);

  const wasOf = (column, w) => (column.changed === w ? column.was : column.differs.includes(w) ? column.before[w] : "");

  function cell(column, k, w) {
    const changed = column.changed === w, was = wasOf(column, w);
    const name = `page ${column.page} ${column.label}, word +${8 * w}: ${column.short[w]}`;
    return make("td", {
      role: "gridcell", tabIndex: -1, className: `mm-cell${column.differs.includes(w) ? " mm-differs" : ""}${changed ? " mm-changed" : ""}`,
      "data-column": k, "data-word": w, style: `--c:var(--role-${column.role})`,
      "aria-label": name + (was ? `, ${changed ? "a moment ago" : "before the series"}: ${was}` : ""),
    }, ...(was ? [make("small", { textContent: was })] : []), make("span", { textContent: column.short[w] }));
  }

  function fold(run) {
    const all = run.alike === run.fold;
    return make("td", { role: "gridcell", rowSpan: WORDS, className: "mm-fold" },
      make("button", { type: "button", title: "show the last of them", "aria-label": `${run.fold} more struct pages, ${all ? "alike" : `${run.alike} alike`}: show the last of them`, onclick: () => go({ pfn: last.run.pfn + last.run.pages - 1 }) },
        make("b", { textContent: `× ${run.fold.toLocaleString("en")}` }), make("br"), all ? "alike" : `not all alike: ${run.unlike.join(" ")}`));
  }

  grid.onclick = (event) => {
    const here = event.target.closest(".mm-cell");
    if (!here) return;
    stop();
    here.focus(); // while the layout is as it was
    go({ pfn: pfns[here.dataset.column], word: +here.dataset.word, bit: 0 });
  };

  const focusCell = () => cells[pfns.indexOf(at.pfn)]?.[at.word].focus();

  /** Show what is selected, before the answer is here. */
  function mark() {
    cells.forEach((column, k) => column.forEach((one, w) => {
      const mine = pfns[k] === at.pfn, here = mine && w === at.word;
      flag(one, "mm-mine", mine);
      if (here !== one.hasAttribute("aria-selected")) {
        if (here) one.setAttribute("aria-selected", "true"); else one.removeAttribute("aria-selected");
        one.tabIndex = here ? 0 : -1;
      }
    }));
    rows.forEach((row, w) => flag(row.node, "mm-mine", w === at.word));
  }

  function moveCell(dx, dy) {
    const k = clamp(pfns.indexOf(at.pfn) + dx, 0, pfns.length - 1), word = clamp(at.word + dy, 0, WORDS - 1);
    cells[k][word].focus(); // while the layout is as it was
    go({ pfn: pfns[k], word, bit: 0 });
  }
  keys(grid, {
    ArrowLeft: () => moveCell(-1, 0), ArrowRight: () => moveCell(1, 0), ArrowUp: () => moveCell(0, -1), ArrowDown: () => moveCell(0, 1),
    Home: () => moveCell(-99, 0), End: () => moveCell(99, 0), Enter: () => bits.focus(), Escape: () => zoom.canvas.focus(),
  });

  function drawPage(data) {
    pageTitle.say(`4  struct page ${hex(data.pfn)}: ${data.label}`, data.reference);
    put(caption, `The eight words of the struct page of pfn ${hex(data.pfn)}`);
    data.words.forEach((word, w) => {
      const { raw, was, old, long } = rows[w];
      put(raw, word.raw);
      was.hidden = !word.old;
      put(old, `was ${word.old}`);
      put(long, word.long);
    });
    drawWord();
  }

  /** What is said of the word and the bit, all of it from the struct page at hand. */
  function drawWord() {
    const data = last.page, { raw, spans, marks } = data.words[at.word], value = BigInt("0x" + raw);
    const valueOf = (bit) => Number((value >> BigInt(bit)) & 1n);
    data.words.forEach(({ by, file }, w) => {
      rows[w].by.title = file;
      put(rows[w].by, w === at.word && file ? `${by}, ${file}` : by);
    });
    bitsTitle.say(`5  word +${8 * at.word} as bits, 63 to 0`, raw);
    boxes.forEach((one, k) => {
      put(one, String(valueOf(63 - k)));
      flag(one, "mm-set", !!valueOf(63 - k));
      flag(one, "mm-mine", 63 - k === at.bit);
    });
    const member = spans.find(([, high, low]) => at.bit <= high && at.bit >= low), known = marks.find(([bit]) => bit === at.bit);
    set(bits, "aria-valuenow", at.bit);
    set(bits, "aria-valuetext", `bit ${at.bit} is ${valueOf(at.bit)}${member ? `, ${`${member[0]} ${member[3]}`.trim()}` : ""}${known ? `, ${known[1]}` : ""}`);
    labels(above, spans.map(([name, high, low, text]) => [high, low, `${name} ${text}`.trim()]), true);
    labels(below, marks.map(([bit, text]) => [bit, bit, bit < 8 ? `${text} ↑` : `↑ ${bit}: ${text}`]), false);
    put(said, `${data.said} Word +${8 * at.word}: ${data.words[at.word].long}. Bit ${at.bit} is ${valueOf(at.bit)}.`);
  }
  bits.onclick = (event) => { if (event.target.dataset.bit) { go({ bit: +event.target.dataset.bit }); bits.focus(); } };
  keys(bits, {
    ArrowLeft: () => go({ bit: Math.min(at.bit + 1, 63) }), ArrowRight: () => go({ bit: Math.max(at.bit - 1, 0) }),
    Home: () => go({ bit: 63 }), End: () => go({ bit: 0 }), Escape: () => focusCell(),
  });

  /** Labels over or under bits, on as few lines as let none touch another. */
  function labels(box, items, brackets) {
    const across = wide + GUTTER + 2, shows = `${across} ${items.join("\n")}`;
    if (box.shows === shows) return;
    box.shows = shows;
    const per = across / 64, ends = [], nodes = [];
    for (const [high, low, text] of items) {
      const left = (63 - high) * per, right = (64 - low) * per, width = text.length * (brackets ? 6.6 : 7.4) + 8;
      const from = clamp((left + right - width) / 2, 0, Math.max(across - width, 0)), last = from > 0 && from >= across - width;
      let level = ends.findIndex((end) => end <= from);
      if (level < 0) level = ends.length;
      ends[level] = from + width;
      const node = make("span", { textContent: text, style: last ? "right:0" : `left:${from}px` });
      node.style[brackets ? "bottom" : "top"] = `${level * 15 + (brackets ? 6 : 0)}px`;
      nodes.push(node);
      if (brackets) nodes.push(make("i", { style: `left:${left + 1}px;width:${right - left - 2}px` }));
    }
    box.style.height = `${Math.max(ends.length, 1) * 15 + (brackets ? 6 : 2)}px`;
    box.replaceChildren(...nodes);
  }

  // ── trace player ───────────────────────────────────────────────────────────────────────────────────────────────
  function drawPlayer(data) {
    player.stores = data.stores;
    player.box.hidden = !data.names.length;
    if (player.listed !== data.names.join("\n")) {
      player.listed = data.names.join("\n");
      player.names.replaceChildren(...data.names.map((name) => make("option", { textContent: name })));
    }
    player.names.selectedIndex = data.op;
    player.slider.max = data.stores;
    player.slider.value = Math.max(data.step, 0);
    set(player.slider, "aria-valuetext", data.line);
    set(player.now, "aria-pressed", data.step < 0);
    put(player.count, data.step < 0 ? `${data.all} stores` : `store ${data.step.toLocaleString("en")} of ${data.all}`);
    put(player.what, data.line);
    put(player.done, data.done);
  }

  function stepTo(step) {
    step = clamp(step, 0, player.stores);
    go({ step }, step > 0 ? { follow: true } : undefined);
  }
  function stepBy(stores) {
    if (at) stepTo(at.step + stores);
  }
  function start() {
    if (!at) return;
    playing = 1;
    player.play.textContent = "⏸";
    player.play.setAttribute("aria-label", "pause");
    stepTo(at.step < 0 || at.step >= player.stores ? 0 : at.step + 1);
  }
  function stop() {
    playing = 0;
    clearTimeout(timer);
    player.play.textContent = "▶";
    player.play.setAttribute("aria-label", "play");
  }
  function next(data) {
    if (data.step >= data.stores) { stop(); return; }
    clearTimeout(timer);
    timer = setTimeout(() => { if (playing) stepBy(1); }, +player.speed.value);
  }

  // ── the rest ───────────────────────────────────────────────────────────────────────────────────────────────────
  layer.onchange = () => go({ layer: layer.value });
  line.onkeydown = (event) => {
    event.stopPropagation();
    if (event.key !== "Enter") return;
    goTo(line.value);
  };
  copy.onclick = async () => {
    line.select();
    try { await navigator.clipboard.writeText(line.value); } catch { document.execCommand("copy"); }
    copy.textContent = "copied";
    setTimeout(() => { copy.textContent = "copy"; }, 1500);
  };
  const resized = new ResizeObserver(([{ contentRect }]) => {
    const now = clamp(Math.floor(contentRect.width - GUTTER - 2), 64, 4096);
    if (!contentRect.width || now === wide) return;
    wide = now;
    ask(at ? ["device", "zoom", "page"] : PARTS);
  });
  resized.observe(root);
  const themes = new MutationObserver(() => requestAnimationFrame(themed));
  themes.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light", "data-jp-theme-name", "class"] });
  model.on("msg:custom", answered);
  return () => { stop(); clearTimeout(telling); resized.disconnect(); themes.disconnect(); model.off("msg:custom", answered); };
}

export default { render };
