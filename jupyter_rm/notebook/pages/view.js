// A live view fed by the kernel: takes frames, keeps values and tables by the rule in docs/server.md, draws them as plain
// tables; when the kernel has sent the library of views (what JupyterLab uses), that draws instead, with the kernel in the
// place of the server. Nothing is ever put into the page as HTML. Knows no network. Read next: ../fed.py, ../feeder.py.

const COLORS = { DONE: "#4bab85", RUNNING: "#1f78b4", FAILED: "#d55e00", CANCELED: "#b0729e", SCHEDULED: "#8cc5ea" };
const ENDED = ["DONE", "FAILED", "CANCELED"];
const TIMES = new Set(["at", "since", "started", "ended", "asked_at", "opened_at"]);
const ROWS = 100;
const READ = new Set(["tasks", "pilots", "queue", "jobs", "sessions"]); // other tables are drawn, not read

const STYLE = `
.jrm-fed { color: var(--jp-ui-font-color1, inherit); font-size: 13px; max-width: 100%; }
.jrm-fed[hidden] { display: none; }
.jrm-fed .bar { display: flex; height: 10px; border: 1px solid currentColor; margin: 4px 0; max-width: 48em; }
.jrm-fed .bar span { height: 100%; }
.jrm-fed .told, .jrm-fed .lost { margin: 2px 0; }
.jrm-fed .lost { border-left: 3px solid #d55e00; padding-left: 6px; }
.jrm-fed .scroll { overflow: auto; max-height: 24em; }
.jrm-fed table { border-collapse: collapse; }
.jrm-fed th, .jrm-fed td { text-align: left; padding: 1px 8px 1px 0; white-space: nowrap; max-width: 30em;
  overflow: hidden; text-overflow: ellipsis; }
.jrm-fed .num { text-align: right; font-variant-numeric: tabular-nums; }
`;

const DIGITS = Array.from({ length: 95 }, (_, n) => String.fromCharCode(32 + n)).filter(c => c !== '"' && c !== "\\").join("");

/** Change cells of rows: differences of whole columns first, then single values (see jupyter_rm/views/cells.py). */
function changeCells(columns, rows, part) {
  for (const [name, [unit, low, base, text, scale]] of Object.entries(part.add || {})) {
    const c = columns.indexOf(name);
    const room = [6, 5, 4, 3, 2, 1].find(count => base ** count <= DIGITS.length);
    rows.forEach((row, n) => {
      const packed = base > 1 ? DIGITS.indexOf(text[Math.floor(n / room)]) : 0;
      const more = unit * (low + Math.floor(packed / base ** (n % room)) % base);
      if (typeof row[c] === "number") row[c] = scale ? (Math.round(row[c] * scale) + more) / scale : row[c] + more;
    });
  }
  for (const [name, [steps, values, picked]] of Object.entries(part.cells || {})) {
    const c = columns.indexOf(name);
    for (let n = 0, place = 0; n < (steps.length || rows.length); n++) {
      place = !steps.length ? n : place + (typeof steps === "string" ? DIGITS.indexOf(steps[n]) : steps[n]);
      rows[place][c] = values[picked ? DIGITS.indexOf(picked[n]) : values.length > 1 ? n : 0];
    }
  }
}

/** Return what is shown after a frame; null when the frame does not belong to it. */
export function patch(shown, frame) {
  if (frame.kind === "same") return shown;
  if (frame.kind === "snapshot") return { seq: frame.seq, values: frame.values, tables: frame.tables };
  if (!shown || frame.seq !== shown.seq + 1) return null;
  const values = { ...shown.values, ...frame.values };
  for (const name of frame.dropped || []) delete values[name];
  const tables = { ...shown.tables };
  for (const [name, part] of Object.entries(frame.tables || {})) {
    if (!tables[name]) return null;
    const { columns } = tables[name];
    const gone = new Set(part.gone || []);
    const whole = new Map((part.rows || []).map(row => [row[0], row]));
    const kept = tables[name].rows.filter((_, place) => !gone.has(place)).map(row => [...row]);
    changeCells(columns, kept, part);
    const rows = kept.map(row => whole.get(row[0]) || row);
    const [places, fresh] = part.new || [[], []];
    places.forEach((place, n) => rows.splice(place, 0, fresh.map(column => column[column.length > 1 ? n : 0])));
    tables[name] = { columns, rows };
  }
  return { seq: frame.seq, values, tables };
}

function make(tag, parent, text, name) {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  if (name) node.className = name;
  parent.appendChild(node);
  return node;
}

function cell(column, value) {
  if (value === null || value === undefined || value === "") return "";
  if (TIMES.has(column) && typeof value === "number") {
    return value > 0 ? new Date(value * 1000).toLocaleTimeString() : "";
  }
  if (value === true) return "yes";
  if (value === false) return "";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

function drawBar(place, counts) {
  const total = Object.values(counts).reduce((sum, count) => sum + count, 0);
  const ended = ENDED.reduce((sum, name) => sum + (counts[name] || 0), 0);
  place.replaceChildren();
  place.setAttribute("aria-valuemax", total);
  place.setAttribute("aria-valuenow", ended);
  for (const name of ["DONE", "FAILED", "CANCELED", "RUNNING", "SCHEDULED"]) {
    if (!counts[name]) continue;
    const part = make("span", place);
    part.style.width = `${(100 * counts[name]) / total}%`;
    part.style.background = COLORS[name];
    part.title = `${counts[name]} ${name}`;
  }
  return total ? `${ended} of ${total} tasks ended: ` + Object.entries(counts).map(([n, c]) => `${c} ${n}`).join(", ")
    : "no tasks yet";
}

function drawTable(place, name, table) {
  place.replaceChildren();
  if (!table.rows.length) return;
  const used = table.columns.map((_, c) => table.rows.some(row => row[c] !== null && row[c] !== ""));
  const grid = make("table", make("div", place, undefined, "scroll"));
  grid.setAttribute("aria-label", name);
  const head = make("tr", make("thead", grid));
  table.columns.forEach((column, c) => {
    if (used[c]) make("th", head, column.replaceAll("_", " ")).setAttribute("scope", "col");
  });
  const body = make("tbody", grid);
  for (const row of table.rows.slice(0, ROWS)) {
    const line = make("tr", body);
    row.forEach((value, c) => {
      if (!used[c]) return;
      const text = cell(table.columns[c], value);
      make("td", line, text, typeof value === "number" && !TIMES.has(table.columns[c]) ? "num" : "").title = text;
    });
  }
  if (table.rows.length > ROWS) make("small", place, `${ROWS} of ${table.rows.length} rows`);
}

/** Show the library's view in an element; returns what takes frames, and how to end. */
async function mountLibrary(model, host, buffer) {
  const url = URL.createObjectURL(new Blob([buffer], { type: "text/javascript" }));
  const lib = await import(url);
  URL.revokeObjectURL(url);
  const base = `https://kernel.invalid/${Math.random().toString(36).slice(2)}/`;
  const open = new Map();
  let count = 0;
  const ask = (address, init) => new Promise(done => {
    const number = ++count;
    open.set(number, done);
    const path = address.slice(`${base}jupyter-rm/`.length);
    model.send({ op: "ask", number, method: init.method || "GET", path, body: init.body || "" });
  });
  let line = null;
  let id = null;
  const says = {
    subscribe: told => {
      id = told.id;
      model.send({ op: "window", window: told.window || {} });
      model.send({ op: "show" });
    },
    window: told => model.send({ op: "window", window: told.window }),
    visible: told => model.send({ op: told.visible ? "show" : "hide" }),
    resync: () => model.send({ op: "resync" }),
    unsubscribe: () => model.send({ op: "hide" }),
  };
  // A kernel that is busy answers nothing for a while: that is no lost line.
  const alive = setInterval(() => line && line.frame({ kind: "hello" }), 10000);
  const dial = end => {
    line = end;
    setTimeout(() => end.opened());
    return { send: told => says[told.op] && says[told.op](told), close: () => end.closed(null) };
  };
  const server = new lib.Server({ baseUrl: base, fetch: ask });
  const mounted = lib.mountView(host, {
    view: model.get("view"), session: model.get("session"), window: {}, server, dial, theme: "auto", place: "cell",
  });
  return {
    frame: frame => line && id !== null && line.frame({ ...frame, id }),
    answer: (told, body) => {
      const done = open.get(told.number);
      open.delete(told.number);
      if (done) done(new Response(body, { status: told.status, headers: { "Content-Type": told.type } }));
    },
    end: () => {
      clearInterval(alive);
      mounted.dispose();
    },
  };
}

function render({ model, el }) {
  const root = make("div", el, undefined, "jrm-fed");
  make("style", root, STYLE);
  make("b", root, `${model.get("view")} of ${model.get("session")}`);
  const lost = make("div", root, undefined, "lost");
  lost.setAttribute("role", "status");
  lost.hidden = true;
  const bar = make("div", root, undefined, "bar");
  bar.setAttribute("role", "progressbar");
  bar.setAttribute("aria-label", "tasks that have ended");
  const told = make("div", root, "waiting for the kernel", "told");
  const tables = make("div", root);
  const places = {};
  let shown = null;
  let planned = false;
  let visible = null;

  function draw() {
    planned = false;
    if (!shown) return;
    lost.hidden = true;
    told.textContent = drawBar(bar, shown.values.counts || {});
    for (const [name, table] of Object.entries(shown.tables)) {
      if (!READ.has(name)) continue;
      places[name] = places[name] || make("div", tables);
      // What did not change is left alone, so that a selection in it survives.
      if (places[name].drawn !== table) drawTable(places[name], name, table);
      places[name].drawn = table;
    }
  }

  function plan() {
    if (!planned) requestAnimationFrame(draw);
    planned = true;
  }

  let library = null;

  async function upgrade(buffer) {
    const host = make("div", el);
    try {
      library = await mountLibrary(model, host, buffer);
      root.hidden = true;
    } catch (error) {
      console.warn("jupyter_rm: plain tables go on", error);
      host.remove();
    }
  }

  function take(content, buffers) {
    if (!buffers || !buffers.length) return;
    if (content.kind === "library" && !library) return void upgrade(buffers[0]);
    if (content.kind === "answer" && library) return library.answer(content, buffers[0]);
    if (content.kind !== "frame") return;
    const frame = JSON.parse(new TextDecoder().decode(buffers[0]));
    if (library) return library.frame(frame);
    if (frame.kind === "lost") {
      lost.textContent = `${frame.message} [${frame.code}]${frame.hint ? ` Next: ${frame.hint}` : ""}`;
      lost.hidden = false;
      return;
    }
    const next = patch(shown, frame);
    if (next === null) model.send({ op: "resync" });
    else if (next !== shown) {
      shown = next;
      plan();
    }
  }

  function look(now) {
    if (now === visible || library) return; // the library looks for itself
    visible = now;
    model.send({ op: now ? "show" : "hide" });
  }

  model.on("msg:custom", take);
  const seen = new Map([["page", !document.hidden], ["place", true]]);
  const update = () => look([...seen.values()].every(Boolean));
  const turned = () => {
    seen.set("page", !document.hidden);
    update();
  };
  document.addEventListener("visibilitychange", turned);
  let watch = null;
  if (window.IntersectionObserver) {
    watch = new IntersectionObserver(entries => {
      seen.set("place", entries[entries.length - 1].isIntersecting);
      update();
    });
    watch.observe(root);
  }
  update();
  model.send({ op: "library" });
  return () => {
    document.removeEventListener("visibilitychange", turned);
    if (watch) watch.disconnect();
    model.off("msg:custom", take);
    if (library) library.end();
    library = null;
    look(false);
  };
}

export default { render };
