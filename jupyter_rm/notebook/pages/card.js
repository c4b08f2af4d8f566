// A pilot or a task: state and why, what it holds, buttons. Read next: ../cards.py.

const COLORS = { DONE: "#4bab85", RUNNING: "#1f78b4", ACTIVE: "#1f78b4", FAILED: "#d55e00", CANCELED: "#b0729e",
  QUEUED: "#e2b33c", DRAINING: "#9a83cf" };
const STYLE = `
.jrm-card { color: var(--jp-ui-font-color1, inherit); font-size: 13px; border: 1px solid #8886; border-left: 5px solid #8888;
  padding: 6px 12px; max-width: 44em; }
.jrm-card dl { display: grid; grid-template-columns: max-content 1fr; gap: 1px 12px; margin: 4px 0; }
.jrm-card dt { opacity: 0.75; } .jrm-card dd { margin: 0; overflow-wrap: anywhere; }
.jrm-card .end { display: flex; gap: 8px; align-items: center; margin-top: 4px; }
`;

function make(tag, parent, text, more = {}) {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  for (const [name, value] of Object.entries(more)) node.setAttribute(name, value);
  parent.appendChild(node);
  return node;
}

function render({ model, el }) {
  const root = make("section", el, undefined, { class: "jrm-card" });
  make("style", root, STYLE);
  const title = make("b", root);
  const list = make("dl", root);
  const end = make("div", root, undefined, { class: "end" });
  const told = make("span", end, "", { role: "status" });
  const buttons = new Map();

  function update() {
    const shown = model.get("shown");
    root.setAttribute("aria-label", shown.title);
    root.style.borderLeftColor = COLORS[shown.state] || "#8888";
    title.textContent = shown.title;
    list.replaceChildren();
    for (const [name, value] of shown.rows) {
      make("dt", list, name);
      make("dd", list, value);
    }
    for (const each of shown.buttons) {
      let button = buttons.get(each.op);
      if (!button) {
        button = make("button", end, each.label, { type: "button" });
        end.insertBefore(button, told);
        button.addEventListener("click", () => {
          told.textContent = "asked";
          model.send({ op: each.op });
        });
        buttons.set(each.op, button);
      }
      button.disabled = Boolean(each.why);
      button.title = each.why || each.help;
    }
    told.textContent = shown.told;
  }
  model.on("change:shown", update);
  update();
  return () => model.off("change:shown", update);
}

export default { render };
