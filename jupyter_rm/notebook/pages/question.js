// A question of a login: an answer goes to the kernel as a message and is forgotten here. Nothing typed is synced, so
// nothing of it stands in a notebook file. Read next: ../asking.py.

const STYLE = `
.jrm-ask { color: var(--jp-ui-font-color1, inherit); border: 1px solid currentColor; border-left-width: 4px; padding: 8px 12px; max-width: 40em; font-size: 13px; }
.jrm-ask p { margin: 4px 0; white-space: pre-wrap; overflow-wrap: anywhere; }
.jrm-ask code { font-weight: bold; }
.jrm-ask form { display: flex; gap: 8px; flex-wrap: wrap; margin-top: 6px; }
.jrm-ask input { flex: 1 1 14em; padding: 3px 6px; }
`;

function make(tag, parent, text, more = {}) {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  for (const [name, value] of Object.entries(more)) node.setAttribute(name, value);
  parent.appendChild(node);
  return node;
}

function render({ model, el }) {
  const shown = model.get("shown");
  const root = make("section", el, undefined, { class: "jrm-ask", role: "group", "aria-label": shown.title });
  make("style", root, STYLE);
  const ask = make("div", root);
  make("b", ask, `${shown.title} `);
  make("span", ask, `for ${shown.who}`);
  if (shown.text) make("p", ask, shown.text);
  if (shown.fingerprint) {
    make("code", make("p", ask), shown.fingerprint);
    make("p", ask, "Compare it with what the site publishes. Trust it only when it is the same.");
  }
  const form = make("form", ask);
  const key = shown.kind === "host_key";
  let field = null;
  if (!key) {
    field = make("input", form, undefined, {
      type: shown.secret ? "password" : "text",
      autocomplete: shown.kind === "otp" ? "one-time-code" : "off",
      "aria-label": shown.title,
    });
    // Shortcuts of the notebook must not act on what is typed here.
    field.addEventListener("keydown", event => event.stopPropagation());
  }
  make("button", form, key ? "Trust and go on" : "Send", { type: "submit" });
  const stop = make("button", form, key ? "Do not connect" : "Cancel", { type: "button" });
  const said = make("p", root, "", { role: "status" });

  function send(told) {
    model.send(told);
    if (field) field.value = "";
    ask.hidden = true;
    said.textContent = `${shown.title} for ${shown.who}: sent`;
  }
  form.addEventListener("submit", event => {
    event.preventDefault();
    send({ op: "answer", text: key ? "yes" : field.value });
  });
  stop.addEventListener("click", () => send({ op: "cancel" }));

  function update() {
    const over = model.get("shown").over;
    if (!over) return;
    ask.hidden = true;
    said.textContent = `${shown.title} for ${shown.who}: ${over}`;
  }
  model.on("change:shown", update);
  update();
  return () => model.off("change:shown", update);
}

export default { render };
