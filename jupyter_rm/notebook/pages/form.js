// A launch form: fields made from a description, checked by the kernel as they are filled, and the command that would
// be sent. Nothing is put into the page as HTML. Read next: ../launch.py, jupyter_rm/views/forms.py.

const STYLE = `
.jrm-form { color: var(--jp-ui-font-color1, inherit); font-size: 13px; max-width: 52em; }
.jrm-form .grid { display: grid; grid-template-columns: max-content minmax(12em, 22em) 1fr; gap: 4px 12px; align-items: center; }
.jrm-form input:not([type=checkbox]), .jrm-form select { width: 100%; box-sizing: border-box; padding: 2px 6px; }
.jrm-form .help { opacity: 0.75; font-size: 12px; }
.jrm-form .bad { color: #b3261e; opacity: 1; }
.jrm-form .bad::before { content: "\\26A0 "; }
.jrm-form pre { white-space: pre-wrap; overflow-wrap: anywhere; border: 1px solid #8884; padding: 6px; max-height: 12em;
  overflow: auto; margin: 4px 0; }
.jrm-form .end { margin-top: 8px; display: flex; gap: 12px; align-items: center; }
@media (prefers-color-scheme: dark) { .jrm-form .bad { color: #ff8a80; } }
`;
const WAIT_MS = 250;
// Each widget loads this script anew: a count alone would give two forms of a page the same names.
const OWN = Math.random().toString(36).slice(2);
let count = 0;

function make(tag, parent, text, more = {}) {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  for (const [name, value] of Object.entries(more)) node.setAttribute(name, value);
  parent.appendChild(node);
  return node;
}

function input(field, parent) {
  if (field.type === "bool") {
    const made = make("select", parent);
    for (const [value, label] of [["", "as the site does"], ["true", "yes"], ["false", "no"]]) {
      make("option", made, label, { value });
    }
    return made;
  }
  if (field.choices.length) {
    const made = make("select", parent);
    const usual = field.default ? `the site's own choice (${field.default})` : "the site's own choice";
    make("option", made, field.required ? "choose" : usual, { value: "" });
    for (const choice of field.choices) make("option", made, choice, { value: choice });
    return made;
  }
  const number = field.type === "int" || field.type === "float";
  const made = make("input", parent, undefined, { type: "text", inputmode: number ? "numeric" : "text" });
  made.placeholder = field.default === null ? "" : String(field.default);
  made.maxLength = field.max_length;
  return made;
}

function render({ model, el }) {
  const root = make("div", el, undefined, { class: "jrm-form", role: "form" });
  make("style", root, STYLE);
  const head = make("b", root);
  const grid = make("div", root, undefined, { class: "grid" });
  const found = make("div", root, undefined, { class: "end" });
  const age = make("span", found, "", { class: "help", role: "status" });
  const refresh = make("button", found, "Look for its queues", { type: "button" });
  const choose = make("details", root);
  make("summary", choose, "Fields");
  const boxes = make("div", choose);
  const whole = make("p", root, "", { class: "help bad", role: "alert" });
  const preview = make("div", root);
  const end = make("div", root, undefined, { class: "end" });
  const start = make("button", end, "Start pilot", { type: "button" });
  const told = make("span", end, "", { role: "status" });
  const made = new Map();
  let timer = null;

  const values = () => Object.fromEntries([...made].map(([name, row]) => [name, row.input.value]));

  function add(field) {
    const id = `jrm-form-${OWN}-${++count}`;
    const label = make("label", grid, field.label + (field.required ? " *" : ""), { for: id });
    const place = make("div", grid);
    const help = make("span", grid, "", { class: "help", id: `${id}-help` });
    const box = input(field, place);
    box.id = id;
    box.value = field.value === null || field.value === undefined ? "" : String(field.value);
    box.disabled = field.read_only;
    dress(box);
    made.set(field.name, { label, place, help, input: box, choices: field.choices.join("\n") });
  }

  function dress(box) {
    box.setAttribute("aria-describedby", `${box.id}-help`);
    box.addEventListener("keydown", event => event.stopPropagation());
    box.addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(() => model.send({ op: "fill", values: values() }), WAIT_MS);
    });
  }

  choose.addEventListener("toggle", () => hideable(model.get("shown")));

  function hideable(form) {
    if (!choose.open) return; // made when somebody wants to see it
    const names = form.fields.map(field => `${field.name} ${field.hidden}`).join("\n");
    if (boxes.dataset.names === names) return;
    boxes.dataset.names = names;
    boxes.replaceChildren();
    for (const field of form.fields.filter(each => !each.required)) {
      const label = make("label", boxes, undefined, { style: "display:inline-block;margin-right:12px" });
      const box = make("input", label, undefined, { type: "checkbox", "data-field": field.name, "aria-label": `Show ${field.label}` });
      box.checked = !field.hidden;
      label.append(` ${field.label}`);
      box.addEventListener("change", () => {
        const hidden = [...boxes.querySelectorAll("input")].filter(each => !each.checked).map(each => each.dataset.field);
        model.send({ op: "hide", values: values(), hidden });
      });
    }
  }

  function update() {
    const form = model.get("shown");
    head.textContent = `A pilot at ${form.site} (${form.title})`;
    for (const field of form.fields) {
      const known = made.get(field.name);
      // Other choices make another input.
      if (known && known.choices !== field.choices.join("\n")) {
        const next = input(field, document.createElement("div"));
        next.id = known.input.id;
        next.value = known.input.value;
        dress(next);
        known.input.replaceWith(next);
        known.input = next;
        known.choices = field.choices.join("\n");
      }
      if (!made.has(field.name)) add(field);
      const row = made.get(field.name);
      for (const node of [row.label, row.place, row.help]) node.hidden = !field.shown || field.hidden;
      row.help.textContent = field.error || (field.read_only ? "decided by the site" : field.help);
      row.help.className = field.error ? "help bad" : "help";
      row.input.setAttribute("aria-invalid", String(Boolean(field.error)));
    }
    hideable(form);
    found.hidden = !form.found.can;
    age.textContent = form.found.failure || form.found.text;
    age.className = form.found.failure ? "help bad" : "help";
    refresh.disabled = false;
    whole.textContent = form.errors[""] || "";
    whole.hidden = !form.errors[""];
    preview.replaceChildren();
    if (form.command) {
      make("span", preview, "This is what will be run at the site:", { class: "help" });
      make("pre", preview, form.command);
      const more = make("details", preview);
      make("summary", more, "the batch script (the same for every job)");
      make("pre", more, form.script);
      const asked = make("details", preview);
      make("summary", asked, "every value that is asked for, defaults included");
      const lines = Object.entries(form.resolved).map(([name, text]) => `${name} = ${text}`);
      make("pre", asked, [...lines, `not given: ${form.left_out.join(", ")}`].join("\n"));
    } else if (form.note) make("span", preview, form.note, { class: "help" });
    const why = form.told ? "" : form.ready ? "" : "Something in the form must be changed first.";
    start.disabled = !form.ready || Boolean(form.started);
    start.title = form.started ? "It was started; change something to start another" : why;
    told.textContent = form.told || why;
  }

  refresh.addEventListener("click", () => {
    refresh.disabled = true;
    age.textContent = "looking";
    model.send({ op: "refresh", values: values() });
  });
  start.addEventListener("click", () => {
    clearTimeout(timer);
    start.disabled = true;
    told.textContent = "asking";
    model.send({ op: "start", values: values() });
  });
  model.on("change:shown", update);
  update();
  return () => {
    clearTimeout(timer);
    model.off("change:shown", update);
  };
}

export default { render };
