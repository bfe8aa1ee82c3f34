/* SPDX-License-Identifier: GPL-2.0-only */
/* The memory map in the browser: it draws what the kernel answers, and asks for what is to be seen next.
 *
 * One question is on its way at a time; what is wanted meanwhile is asked for when the answer has been drawn.
 * Strips are canvases; struct pages, inspector and bits are HTML, so that they can be read aloud and selected.
 */
const WORDS = 8, GUTTER = 150, STRIP_PX = 26, LANE_PX = 15, FEWEST_PX = 2, SHORTEST = 64;
const PRIORITY = ["head", "first_tail", "second_tail"];
const SPEEDS = [["1 a second", 1000], ["5 a second", 200], ["20 a second", 50], ["as fast as it goes", 0]];

const hex = (n) => "0x" + n.toString(16);
const clamp = (x, lo, hi) => Math.max(lo, Math.min(hi, x));
let views = 0;

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
  let at = null, good = null, text = facts.state, seq = 0, busy = 0, timer = 0, playing = 0, last = {};
  const want = new Set();

  // ── what is on the screen ──────────────────────────────────────────────────────────────────────────────────────
  const line = make("input", { type: "text", spellcheck: false, "aria-label": "this view as text; type another one to go there", className: "mm-state" });
  const copy = make("button", { type: "button", textContent: "copy" });
  const layer = make("select", { "aria-label": "layer of the strips" },
    ...facts.layers.map((one) => make("option", { value: one.key, textContent: one.label })));
  const legend = make("span", { className: "mm-legend", role: "list", "aria-label": "legend" });
  const device = strip("device", "range of the device shown below");
  const zoom = strip("zoom", "place of the selected compound page in the range");
  const wedge = [wedgeBox(), wedgeBox()];
  const runTitle = make("h4"), grid = make("table", { role: "grid", className: "mm-grid", "aria-label": "struct pages word by word" });
  const pageTitle = make("h4"), page = make("table", { className: "mm-page" });
  const bitsTitle = make("h4"), bits = make("div", { className: "mm-bits", role: "slider", tabIndex: 0, "aria-label": "bit of the word", "aria-valuemin": 0, "aria-valuemax": 63 });
  const above = make("div", { className: "mm-spans", "aria-hidden": "true" }), below = make("div", { className: "mm-marks", "aria-hidden": "true" });
  const ticks = make("div", { className: "mm-ticks", "aria-hidden": "true" });
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
      make("div", {}, runTitle, make("div", { className: "mm-scroll" }, grid)),
      make("div", {}, pageTitle, make("div", { className: "mm-scroll" }, page))),
    make("div", { className: "mm-word" }, bitsTitle, above, bits, ticks, below),
    player.box, said, wrong);
  for (const [role, [fill, outline]] of Object.entries(facts.roles)) {
    root.style.setProperty(`--role-${role}`, fill);
    root.style.setProperty(`--line-${role}`, outline);
  }
  el.replaceChildren(root);

  function strip(part, label) {
    const title = make("h4"), canvas = make("canvas", {
      tabIndex: 0, role: "slider", "aria-label": label, "aria-valuemin": facts.start, "aria-valuemax": facts.end });
    const box = make("div", { className: "mm-strip" }, title, canvas);
    return { part, box, title, canvas, data: null };
  }

  function wedgeBox() {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("class", "mm-wedge");
    svg.setAttribute("aria-hidden", "true");
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
        button("|‹", "before the first store", () => stepTo(0)), button("‹", "one store back", () => stepTo(at.step - 1)), play,
        button("›", "one store on", () => stepTo(at.step + 1)), button("›|", "after the last store", () => stepTo(Infinity)), now, slider, speed),
      make("div", {}, count), make("div", { className: "mm-store" }, what), done);
    names.onchange = () => { stop(); go({ op: names.selectedIndex, step: 0 }); };
    slider.oninput = () => stepTo(+slider.value);
    return { box, names, slider, speed, play, now, count, what, done };
  }

  // ── asking and answering ───────────────────────────────────────────────────────────────────────────────────────
  function stateText() {
    return `tree=${facts.tree}/pgmap=${facts.pgmap}/pfn=${hex(at.pfn)}/word=${at.word}/bit=${at.bit}` +
      `/zoom=${hex(at.lo)}-${hex(at.hi - 1)}/layer=${at.layer}` + (at.step >= 0 ? `/op=${at.op}/step=${at.step}` : "");
  }

  function ask(parts, more) {
    parts.forEach((part) => want.add(part));
    if (more) ask.more = more;
    if (busy && performance.now() - busy < 5000) return;
    const question = { seq: ++seq, view, state: text, parts: [...want], bins: stripWidth(), ...ask.more };
    want.clear();
    ask.more = null;
    busy = performance.now();
    root.dataset.asked = seq;
    model.send(question);
  }

  /** Change what is shown, and ask for what that changes. */
  function go(change, more) {
    if (!at) return;
    const was = { ...at };
    Object.assign(at, change);
    if (at.pfn !== was.pfn && (at.pfn < at.lo || at.pfn >= at.hi)) {
      const wide = at.hi - at.lo;
      at.lo = clamp(at.pfn - Math.floor(wide / 2), facts.start, facts.end - wide);
      at.hi = at.lo + wide;
    }
    text = stateText();
    const parts = new Set();
    if (at.layer !== was.layer) parts.add("device").add("zoom");
    if (at.lo !== was.lo || at.hi !== was.hi) parts.add("zoom");
    // A struct page that is drawn already needs its words taken apart, no more.
    const drawn = !more && at.step < 0 && last.run?.columns.length <= 8 && last.run.columns.some((one) => one.pfn === at.pfn);
    if (at.pfn !== was.pfn || more?.snap !== undefined) (drawn ? ["page"] : ["run", "page", "player"]).forEach((part) => parts.add(part));
    if (at.step !== was.step || at.op !== was.op) ["run", "page", "player"].forEach((part) => parts.add(part));
    if (at.word !== was.word || at.bit !== was.bit) parts.add("page");
    mark();
    if (at.bit !== was.bit && at.word === was.word && at.pfn === was.pfn) drawBits(last.page.bits);
    ask([...parts], more);
  }

  function answered(message, buffers) {
    if (message.kind === "go") { text = message.state; at = null; ask(["device", "zoom", "run", "page", "player"]); return; }
    if (message.view !== view || message.seq !== seq) return;
    busy = 0;
    wrong.hidden = !message.error;
    if (message.error) {
      stop();
      wrong.textContent = message.error;
      if (good) at = { ...good };
      text = line.value = message.state;
    }
    else {
      if (!want.size) { at = message.at; good = { ...at }; text = line.value = message.state; layer.value = at.layer; }
      said.textContent = message.said;
      Object.assign(last, message);
      const arrays = buffers.map((one) => one instanceof DataView
        ? new Uint32Array(one.buffer.slice(one.byteOffset, one.byteOffset + one.byteLength)) : new Uint32Array(one));
      for (const one of [device, zoom]) if (message[one.part]) one.data = { ...message[one.part], arrays };
      if (message.run) drawRun(message.run);
      if (message.page) drawPage(message.page);
      if (message.player) drawPlayer(message.player);
      if (message.device || message.zoom) draw();
      else if (message.run) drawZoom(colours());
    }
    root.dataset.drawn = message.seq;
    if (want.size) { ask([]); return; }
    if (playing && message.player) next(message.player);
  }

  // ── strips ─────────────────────────────────────────────────────────────────────────────────────────────────────
  const stripWidth = () => clamp(Math.floor(device.box.clientWidth - GUTTER - 2), 64, 4096);
  const toX = (pfn, lo, hi) => GUTTER + ((pfn - lo) / (hi - lo)) * stripWidth();
  const toPfn = (x, lo, hi) => clamp(Math.floor(lo + ((x - GUTTER) / stripWidth()) * (hi - lo)), lo, hi - 1);

  function colours() {
    const style = getComputedStyle(root), look = {};
    for (const name of ["ink", "faint", "paper", "line", "brand"]) look[name] = style.getPropertyValue(`--mm-${name}`);
    return look;
  }

  function draw() {
    if (!at) return;
    const look = colours();
    drawLegend();
    if (device.data) {
      drawStrip(device, look, at.lo, at.hi);
      title(device, "1  the device", `${device.data.ends[0]} to ${device.data.ends[1]}; framed: ${zoom.data ? `${zoom.data.size} at ${zoom.data.ends[0]}` : ""}`);
      device.canvas.setAttribute("aria-valuenow", at.lo);
    }
    drawZoom(look);
  }

  function drawZoom(look) {
    if (!zoom.data) return;
    const run = last.run || { pfn: at.pfn, pages: 1, text: "" };
    drawStrip(zoom, look, run.pfn, run.pfn + run.pages);
    title(zoom, `2  ${zoom.data.size} of it`, `${at.layer === "roles" ? `heads and first tails at least ${FEWEST_PX} px, not to scale · ` : ""}drag or ← → move · + − zoom · Home all · Enter inside`);
    device.canvas.setAttribute("aria-valuetext", zoom.data.text);
    zoom.canvas.setAttribute("aria-valuenow", at.pfn);
    zoom.canvas.setAttribute("aria-valuetext", run.text);
    point(wedge[0], toX(at.lo, facts.start, facts.end), toX(at.hi, facts.start, facts.end), GUTTER);
    const [lo, hi] = [Math.max(run.pfn, at.lo), Math.min(run.pfn + run.pages, at.hi)];
    point(wedge[1], toX(lo, at.lo, at.hi), toX(Math.max(hi, lo), at.lo, at.hi), 0);
  }

  function title(one, name, aside) {
    one.title.replaceChildren(make("span", { textContent: name }), make("small", { textContent: aside }));
  }

  function point(svg, left, right, start) {
    const wide = GUTTER + stripWidth();
    const x = (px) => clamp(px, 0, wide);
    svg.setAttribute("viewBox", `0 0 ${wide} 14`);
    svg.setAttribute("preserveAspectRatio", "none");
    svg.firstChild.setAttribute("points", `${x(left)},0 ${Math.max(x(right), x(left) + 2)},0 ${wide},14 ${start},14`);
  }

  function drawLegend() {
    const lanes = layers[at.layer].lanes, seen = shownLanes();
    legend.replaceChildren(...lanes.flatMap(([label, role], k) => {
      if (!seen.has(k) || (at.layer !== "roles" && !role)) return [];
      return [make("span", { role: "listitem" }, make("i", { className: `mm-swatch ${patternOf(role)}`, style: `background-color:var(--role-${role});border-color:var(--line-${role})` }), label)];
    }), ...(facts.before ? [make("span", { role: "listitem" }, make("i", { className: "mm-swatch mm-differs" }), "differs before | after")] : []));
  }

  const patternOf = (role) => ({ "/": "mm-hatched", "x": "mm-crossed", ".": "mm-dotted" })[(facts.roles[role] || [])[2]] || "";

  /** Numbers of the lanes of the layer in which any page of the device is. */
  function shownLanes() {
    const seen = new Set(), lanes = layers[at.layer].lanes.length;
    for (const one of [device, zoom]) {
      if (!one.data) continue;
      for (const [, buffer] of one.data.rows) one.data.arrays[buffer].forEach((pages, k) => { if (pages) seen.add(k % lanes); });
    }
    return seen;
  }

  function drawStrip(one, look, lo, hi) {
    const { data, canvas } = one, roles = at.layer === "roles", lanes = layers[at.layer].lanes;
    const seen = [...shownLanes()].sort((a, b) => a - b), rows = data.rows.length;
    const rowPx = roles ? STRIP_PX : seen.length * LANE_PX, gap = data.differs === undefined ? 4 : 12;
    const width = stripWidth(), height = rows * rowPx + (rows - 1) * gap + 8, ratio = window.devicePixelRatio || 1;
    canvas.width = (GUTTER + width + 2) * ratio;
    canvas.height = height * ratio;
    canvas.style.width = GUTTER + width + 2 + "px";
    canvas.style.height = height + "px";
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    pen.font = "11px DejaVu Sans, Verdana, sans-serif";
    pen.textBaseline = "middle";
    data.rows.forEach(([name, buffer], k) => {
      const top = 4 + k * (rowPx + gap), counts = data.arrays[buffer];
      const which = name === "before" ? facts.before : name === "after" ? facts.tree : "";
      pen.fillStyle = look.ink;
      if (roles) {
        pen.fillText(name ? `${name}: ${which}` : facts.tree, 2, top + rowPx / 2, GUTTER - 8);
        drawRoles(pen, counts, data.bins, lanes, top, rowPx, look);
      } else drawLanes(pen, counts, data.bins, lanes, seen, top, look, name);
      pen.strokeStyle = look.line;
      pen.strokeRect(GUTTER + 0.5, top + 0.5, width - 1, rowPx - 1);
    });
    if (data.differs !== undefined) {
      const differs = data.arrays[data.differs], cell = width / data.bins, top = 4 + rowPx + 3;
      pen.fillStyle = look.ink;
      for (let bin = 0; bin < data.bins; bin++) if (differs[bin]) pen.fillRect(GUTTER + bin * cell, top, Math.max(cell, 1), gap - 6);
      pen.fillText("differs", 2, top + 3, GUTTER - 8);
    }
    const left = toX(clamp(lo, data.start, data.end), data.start, data.end), right = toX(clamp(hi, data.start, data.end), data.start, data.end);
    pen.lineWidth = 2;
    pen.strokeStyle = look.brand;
    const wide = Math.max(right - left, 6), from = clamp((left + right - wide) / 2, GUTTER, GUTTER + width - wide);
    pen.strokeStyle = look.paper; pen.lineWidth = 5; pen.strokeRect(from, 1.5, wide, height - 3);
    pen.strokeStyle = look.brand; pen.lineWidth = 2.5; pen.strokeRect(from, 1.5, wide, height - 3);
  }

  /** A bin that holds many compounds is a stack of its roles; where compounds can be told apart they are drawn. */
  function drawRoles(pen, counts, bins, lanes, top, height, look) {
    const n = lanes.length, cell = stripWidth() / bins, key = (k) => lanes[k][1];
    const heads = lanes.findIndex((lane) => lane[1] === "head");
    let headBins = 0;
    for (let bin = 0; bin < bins; bin++) headBins += counts[bin * n + heads];
    const apart = !headBins || (bins * cell) / headBins >= 8;
    for (let bin = 0; bin < bins; bin++) {
      const x = GUTTER + bin * cell, mine = [];
      let total = 0;
      for (let k = 0; k < n; k++) if (counts[bin * n + k]) { mine.push(k); total += counts[bin * n + k]; }
      if (apart) {
        const most = mine.reduce((a, b) => (counts[bin * n + b] > counts[bin * n + a] ? b : a), mine[0]);
        fill(pen, key(most), x, top, cell + 0.5, height, look);
      } else {
        let y = top, spare = height - FEWEST_PX * mine.length;
        for (const k of mine) {
          const tall = FEWEST_PX + (spare * counts[bin * n + k]) / total;
          fill(pen, key(k), x, y, cell + 0.5, tall, look);
          y += tall;
        }
      }
    }
    if (!apart) return;
    for (let bin = 0; bin < bins; bin++) {
      let x = GUTTER + bin * cell;
      lanes.forEach(([, role], k) => {
        if (!PRIORITY.includes(role) || !counts[bin * n + k]) return;
        fill(pen, role, x, top, Math.max(cell, FEWEST_PX), height, look);
        x += FEWEST_PX;
      });
    }
    if (cell >= 5) {
      pen.strokeStyle = look.line; pen.lineWidth = 1;
      for (let bin = 1; bin < bins; bin++) pen.strokeRect(GUTTER + bin * cell, top, 0, height);
    }
  }

  function fill(pen, role, x, y, wide, tall, look) {
    const [colour, outline, pattern] = facts.roles[role];
    pen.fillStyle = colour;
    pen.fillRect(x, y, wide, tall);
    if (!pattern) return;
    pen.fillStyle = outline;
    for (let dx = 0; dx < wide; dx++) {
      const column = Math.floor(x + dx);
      if (pattern === "/") for (let dy = 0; dy < tall; dy++) { if ((column + dy) % 7 === 0) pen.fillRect(column, y + dy, 1, 1); }
      else for (let dy = 0; dy < tall; dy++) { if (column % 5 === 0 && dy % 5 === 0) pen.fillRect(column, y + dy, 1, 1); }
    }
  }

  /** One line a lane; how dark it is says how many of the bin's pages are in it. */
  function drawLanes(pen, counts, bins, lanes, seen, top, look, name) {
    const n = lanes.length, cell = stripWidth() / bins;
    seen.forEach((k, row) => {
      const y = top + row * LANE_PX, role = lanes[k][1];
      pen.globalAlpha = 1;
      pen.fillStyle = look.ink;
      pen.fillText((name ? name + ": " : "") + lanes[k][0].replace("PG_", ""), 2, y + LANE_PX / 2, GUTTER - 8);
      for (let bin = 0; bin < bins; bin++) {
        const mine = counts[bin * n + k];
        if (!mine) continue;
        let total = 0;
        for (let j = 0; j < n; j++) total = at.layer === "flags" ? Math.max(total, counts[bin * n + j]) : total + counts[bin * n + j];
        pen.globalAlpha = role ? 1 : 0.3 + 0.6 * (mine / total);
        pen.fillStyle = role ? facts.roles[role][0] : look.ink;
        pen.fillRect(GUTTER + bin * cell, y + 2, Math.max(cell + 0.5, FEWEST_PX), LANE_PX - 4);
      }
      pen.globalAlpha = 1;
    });
  }

  // ── brush ──────────────────────────────────────────────────────────────────────────────────────────────────────
  function zoomTo(lo, hi) {
    const wide = clamp(Math.round(hi - lo), Math.min(SHORTEST, facts.end - facts.start), facts.end - facts.start);
    lo = clamp(Math.round(lo), facts.start, facts.end - wide);
    const shown = { lo, hi: lo + wide };
    go(shown);
  }

  function scale(factor, centre) {
    const share = (centre - at.lo) / (at.hi - at.lo), wide = (at.hi - at.lo) * factor;
    zoomTo(centre - share * wide, centre + (1 - share) * wide);
  }

  device.canvas.onpointerdown = (event) => {
    device.canvas.setPointerCapture(event.pointerId);
    const began = toPfn(event.offsetX, facts.start, facts.end), wide = at.hi - at.lo, from = at.lo;
    const frame = [toX(at.lo, facts.start, facts.end) - 4, toX(at.hi, facts.start, facts.end) + 4];
    const inside = event.offsetX >= frame[0] && event.offsetX <= frame[1], first = event.offsetX;
    device.canvas.onpointermove = (moved) => {
      const here = toPfn(moved.offsetX, facts.start, facts.end);
      if (inside) zoomTo(from + here - began, from + here - began + wide);
      else if (Math.abs(moved.offsetX - first) > 3) zoomTo(Math.min(began, here), Math.max(began, here) + 1);
    };
    device.canvas.onpointerup = device.canvas.onpointercancel = (done) => {
      device.canvas.onpointermove = device.canvas.onpointerup = null;
      if (!inside && Math.abs(done.offsetX - first) <= 3) zoomTo(began - wide / 2, began + wide / 2);
    };
  };
  zoom.canvas.onpointerdown = (event) => {
    zoom.canvas.setPointerCapture(event.pointerId);
    const { lo, hi } = at, per = (hi - lo) / stripWidth(), first = event.offsetX;
    zoom.canvas.onpointermove = (moved) => {
      if (Math.abs(moved.offsetX - first) > 3) zoomTo(lo - (moved.offsetX - first) * per, hi - (moved.offsetX - first) * per);
    };
    zoom.canvas.onpointerup = zoom.canvas.onpointercancel = (done) => {
      zoom.canvas.onpointermove = zoom.canvas.onpointerup = null;
      if (Math.abs(done.offsetX - first) <= 3) select(toPfn(done.offsetX, lo, hi), per > 1);
    };
  };
  for (const one of [device, zoom]) one.canvas.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && document.activeElement !== one.canvas) return;
    event.preventDefault();
    const around = one === zoom ? toPfn(event.offsetX, at.lo, at.hi) : (at.lo + at.hi) / 2;
    scale(event.deltaY > 0 ? 1.25 : 0.8, around);
  }, { passive: false });

  /** Select a struct page; from afar it is the same one of the compound page that lies there. */
  function select(pfn, afar) {
    const snap = afar && last.run ? at.pfn - last.run.pfn : undefined;
    go({ pfn, step: -1 }, snap === undefined ? undefined : { snap });
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
    const focused = grid.contains(document.activeElement);
    runTitle.replaceChildren(make("span", { textContent: `3  ${run.text}` }), make("small", { textContent: "the first struct pages wide; a cell is 8 bytes" }));
    const foldAt = run.fold ? Math.min(run.columns.length, 8) : -1;
    const head = make("tr", { role: "row" }, make("td", { role: "presentation" }));
    const rows = Array.from({ length: WORDS }, (_, w) => make("tr", { role: "row" }, make("th", { role: "rowheader", scope: "row", textContent: `+${8 * w}` })));
    run.columns.forEach((column, k) => {
      if (k === foldAt) fold(run, head, rows);
      head.append(make("th", { role: "columnheader", scope: "col", className: "mm-column", style: `--c:var(--role-${column.role})` },
        make("i", { className: patternOf(column.role) }), `page ${column.page.toLocaleString("en")}`, make("br"), column.label));
      rows.forEach((row, w) => row.append(cell(column, w)));
    });
    if (foldAt === run.columns.length) fold(run, head, rows);
    grid.replaceChildren(make("thead", { role: "rowgroup" }, head), make("tbody", { role: "rowgroup" }, ...rows));
    mark();
    if (focused) focusCell();
  }

  function cell(column, w) {
    const differs = column.differs.includes(w), changed = column.changed === w;
    const name = `page ${column.page} ${column.label}, word +${8 * w}: ${column.short[w]}`;
    const was = changed ? column.was : differs ? column.before[w] : "";
    return make("td", {
      role: "gridcell", tabIndex: -1, className: `mm-cell${differs ? " mm-differs" : ""}${changed ? " mm-changed" : ""}${column.short[w] === "0" ? " mm-zero" : ""}`,
      "data-pfn": column.pfn, "data-word": w, style: `--c:var(--role-${column.role})`, title: `${column.raw[w]}${was ? `, was ${was}` : ""}`,
      "aria-label": name + (was ? `, ${changed ? "a moment ago" : "before the series"}: ${was}` : ""),
      onclick: () => { stop(); go({ pfn: column.pfn, word: w, bit: 0 }); focusCell(); },
    }, ...(was ? [make("small", { textContent: was })] : []), make("span", { textContent: column.short[w] }));
  }

  function fold(run, head, rows) {
    const alike = run.alike === run.fold;
    head.append(make("td", { role: "presentation" }));
    rows[0].append(make("td", { role: "gridcell", rowSpan: WORDS, className: "mm-fold" },
      make("button", { type: "button", title: "show the last of them", "aria-label": `${run.fold} more struct pages, ${alike ? "alike" : `${run.alike} alike`}: show the last of them`, onclick: () => go({ pfn: run.pfn + run.pages - 1 }) },
        make("b", { textContent: `× ${run.fold.toLocaleString("en")}` }), make("br"), alike ? "alike" : `not all alike: ${run.unlike.join(" ")}`)));
  }

  const cellAt = (pfn, w) => grid.querySelector(`[data-pfn="${pfn}"][data-word="${w}"]`);
  const focusCell = () => cellAt(at.pfn, at.word)?.focus({ preventScroll: false });

  /** Show what is selected, before the answer is here. */
  function mark() {
    grid.querySelectorAll("[aria-selected]").forEach((one) => { one.removeAttribute("aria-selected"); one.tabIndex = -1; });
    const here = cellAt(at.pfn, at.word);
    if (here) { here.setAttribute("aria-selected", "true"); here.tabIndex = 0; }
    grid.querySelectorAll(".mm-cell").forEach((one) => one.classList.toggle("mm-mine", +one.dataset.pfn === at.pfn));
    page.querySelectorAll("tr").forEach((row, w) => row.classList.toggle("mm-mine", w - 1 === at.word));
  }

  function moveCell(dx, dy) {
    const pfns = [...grid.querySelectorAll('[data-word="0"]')].map((one) => +one.dataset.pfn);
    const k = clamp(pfns.indexOf(at.pfn) + dx, 0, pfns.length - 1);
    go({ pfn: pfns[k], word: clamp(at.word + dy, 0, WORDS - 1), bit: 0 });
    focusCell();
  }
  keys(grid, {
    ArrowLeft: () => moveCell(-1, 0), ArrowRight: () => moveCell(1, 0), ArrowUp: () => moveCell(0, -1), ArrowDown: () => moveCell(0, 1),
    Home: () => moveCell(-99, 0), End: () => moveCell(99, 0), Enter: () => bits.focus(), Escape: () => zoom.canvas.focus(),
  });

  function drawPage(data) {
    pageTitle.replaceChildren(make("span", { textContent: `4  struct page ${hex(data.pfn)}: ${data.label}` }), make("small", { textContent: data.reference }));
    const head = make("tr", {}, ...["", "8 bytes", "members", "written last by"].map((name) => make("th", { scope: "col", textContent: name })));
    page.replaceChildren(make("caption", { textContent: `The eight words of the struct page of pfn ${hex(data.pfn)}` }), head, ...data.words.map((word, w) => make("tr", {
      className: w === at.word ? "mm-mine" : "", onclick: () => go({ word: w, bit: 0 }) },
      make("th", { scope: "row", textContent: `+${8 * w}` }), make("td", {}, make("code", { textContent: word.raw }), ...(word.old ? [make("br"), make("small", { textContent: `was ${word.old}` })] : [])),
      make("td", { textContent: word.long }), make("td", { className: "mm-by", title: word.file, textContent: w === at.word && word.file ? `${word.by}, ${word.file}` : word.by }))));
    drawBits(data.bits);
  }

  function drawBits(data) {
    const value = BigInt("0x" + data.raw);
    bitsTitle.replaceChildren(make("span", { textContent: `5  word +${8 * data.word} as bits, 63 to 0` }), make("code", { textContent: data.raw }));
    bits.replaceChildren(...Array.from({ length: 64 }, (_, k) => {
      const bit = 63 - k, set = (value >> BigInt(bit)) & 1n;
      return make("span", { className: (set ? "mm-set" : "") + (bit === at.bit ? " mm-mine" : ""), "data-bit": bit, "aria-hidden": "true", textContent: String(set), onclick: () => { go({ bit }); bits.focus(); } });
    }));
    const member = data.spans.find(([, high, low]) => at.bit <= high && at.bit >= low), flag = data.marks.find(([bit]) => bit === at.bit);
    bits.setAttribute("aria-valuenow", at.bit);
    bits.setAttribute("aria-valuetext", `bit ${at.bit} is ${(value >> BigInt(at.bit)) & 1n}${member ? `, ${`${member[0]} ${member[3]}`.trim()}` : ""}${flag ? `, ${flag[1]}` : ""}`);
    labels(above, data.spans.map(([name, high, low, text]) => [high, low, `${name} ${text}`.trim()]), true);
    labels(below, data.marks.map(([bit, text]) => [bit, bit, bit < 8 ? `${text} ↑` : `↑ ${bit}: ${text}`]), false);
    ticks.replaceChildren(...[63, 56, 48, 40, 32, 24, 16, 8, 0].map((bit) => make("span", { style: `left:${((63.5 - bit) / 64) * 100}%`, textContent: bit })));
  }
  keys(bits, {
    ArrowLeft: () => go({ bit: Math.min(at.bit + 1, 63) }), ArrowRight: () => go({ bit: Math.max(at.bit - 1, 0) }),
    Home: () => go({ bit: 63 }), End: () => go({ bit: 0 }), Escape: () => focusCell(),
  });

  /** Labels over or under bits, on as few lines as let none touch another. */
  function labels(box, items, brackets) {
    const wide = bits.clientWidth, per = wide / 64, ends = [], nodes = [];
    for (const [high, low, text] of items) {
      const left = (63 - high) * per, right = (64 - low) * per, width = text.length * (brackets ? 6.6 : 7.4) + 8;
      const from = clamp((left + right - width) / 2, 0, Math.max(wide - width, 0)), last = from > 0 && from >= wide - width;
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
    player.names.replaceChildren(...data.names.map((name, k) => make("option", { textContent: name, selected: k === data.op })));
    player.slider.max = data.stores;
    player.slider.value = Math.max(data.step, 0);
    player.slider.setAttribute("aria-valuetext", data.line);
    player.now.setAttribute("aria-pressed", String(data.step < 0));
    player.count.textContent = data.step < 0 ? `${data.all} stores` : `store ${data.step.toLocaleString("en")} of ${data.all}`;
    player.what.textContent = data.line;
    player.done.textContent = data.done;
  }

  function stepTo(step) {
    step = clamp(step, 0, player.stores);
    go({ step }, step > 0 ? { follow: true } : undefined);
  }
  function start() {
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
    timer = setTimeout(() => { if (playing) stepTo(at.step + 1); }, +player.speed.value);
  }

  // ── the rest ───────────────────────────────────────────────────────────────────────────────────────────────────
  layer.onchange = () => go({ layer: layer.value });
  line.onkeydown = (event) => {
    event.stopPropagation();
    if (event.key !== "Enter") return;
    text = line.value;
    ask(["device", "zoom", "run", "page", "player"]);
  };
  copy.onclick = async () => {
    line.select();
    try { await navigator.clipboard.writeText(line.value); } catch { document.execCommand("copy"); }
    copy.textContent = "copied";
    setTimeout(() => { copy.textContent = "copy"; }, 1500);
  };
  const resized = new ResizeObserver(() => {
    if (!root.clientWidth || stripWidth() === resized.wide) return;
    resized.wide = stripWidth();
    ask(at ? ["device", "zoom", "page"] : ["device", "zoom", "run", "page", "player"]);
  });
  resized.observe(root);
  const themed = new MutationObserver(() => requestAnimationFrame(draw));
  themed.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light", "data-jp-theme-name", "class"] });
  model.on("msg:custom", answered);
  return () => { stop(); resized.disconnect(); themed.disconnect(); model.off("msg:custom", answered); };
}

export default { render };
