// The body of a view that is drawn: a toolbar made from the figure's controls, the figure, and what clicks do.
// Which controls there are is told by the server with the figure (jupyter_rm/views/controls.py). Read next: figure.ts.

import { button, fill, h, write } from './dom';
import type { Shown } from './feed';
import { Figure, template, type Control, type Template } from './figure';
import { onSelect, select, selected } from './page';
import { later, notice, trouble } from './parts';
import { records, type Picture } from './picture';
import { SheetTables, sheetOf } from './sheet';
import { moment } from './texts';
import type { Body, Stage } from './view';

/** A figure on the stage that follows theme and size; views with a table have one beside it. */
export class Panel {
  readonly host = h('div', { class: 'jrm-figure' });
  private figure: Figure | null = null;
  private picture: Picture | null = null;
  private asked = 0;

  constructor(
    private readonly stage: Stage,
    private readonly made: (template: Template) => void,
    private readonly tapped: (table: string, row: Record<string, unknown> | null) => void = () => undefined,
    private readonly ranged: (figure: string, span: [number, number] | null) => void = () => undefined
  ) {
    void this.load();
  }

  /** Fetch and draw the figure of the theme of now. */
  async load(): Promise<void> {
    const asked = ++this.asked;
    const { server, view, theme } = this.stage;
    try {
      const found = await template(server, view, theme());
      if (asked !== this.asked) return;
      const host = h('div', {});
      const figure = new Figure(host, found, { tapped: this.tapped, ranged: this.ranged });
      this.host.append(host);
      await figure.open(server);
      if (asked !== this.asked) return figure.dispose();
      this.figure?.dispose();
      this.figure = figure;
      this.host.replaceChildren(host);
      this.made(found);
      if (this.picture) figure.push(this.picture);
    } catch (error) {
      if (asked !== this.asked) return;
      fill(this.host, notice(trouble(error), this.stage.trans, () => void this.load()));
    }
  }

  push(picture: Picture): void {
    this.picture = picture;
    this.figure?.push(picture);
  }

  /** Keep what is drawn as a file, one picture under a line that says of what and when. */
  save(at: number): void {
    const { stage } = this;
    const drawn = this.figure?.canvas();
    if (!drawn || !drawn.width) return stage.say(stage.trans.__('Nothing is drawn yet'));
    const scale = drawn.width / Math.max(1, this.host.clientWidth);
    const high = Math.round(26 * scale);
    const made = h('canvas', { width: drawn.width, height: drawn.height + high });
    const pen = made.getContext('2d') as CanvasRenderingContext2D;
    const dark = stage.theme() === 'dark';
    pen.fillStyle = dark ? '#111418' : '#ffffff';
    pen.fillRect(0, 0, made.width, made.height);
    pen.fillStyle = dark ? '#e6e8eb' : '#1f2328';
    pen.font = `${Math.round(13 * scale)}px sans-serif`;
    const day = new Date(at * 1000);
    pen.fillText(`${stage.view} · ${stage.session} · ${day.toLocaleString()}`, 8 * scale, 18 * scale);
    pen.drawImage(drawn, 0, high);
    const name = `${stage.session}-${stage.view}-${day.toISOString().slice(0, 19).replace(/:/g, '')}.png`;
    made.toBlob(blob => {
      if (!blob) return;
      const url = URL.createObjectURL(blob);
      h('a', { href: url, download: name }).click();
      setTimeout(() => URL.revokeObjectURL(url), 60_000);
      stage.say(stage.trans.__('Saved as %1', name));
    }, 'image/png');
  }

  /** A button that saves. */
  keep(at: () => number): HTMLButtonElement {
    const { trans } = this.stage;
    return button(trans.__('Save picture'), () => this.save(at()), { title: trans.__('Save what is drawn as a PNG file') });
  }

  dispose(): void {
    this.asked++;
    this.figure?.dispose();
  }
}

export class Drawn implements Body {
  private readonly panel: Panel;
  private readonly size: ResizeObserver;
  private readonly end: () => void;
  private controls: Control[] = [];
  private shown: Shown | null = null;
  private refreshers: ((shown: Shown) => void)[] = [];
  private readonly sheetBox = h('div', {});
  private readonly note = h('div', { class: 'jrm-said', role: 'status' });
  private sheet: SheetTables | null = null;
  private readonly asTable: HTMLButtonElement | null = null;

  constructor(private readonly stage: Stage) {
    this.panel = new Panel(
      stage,
      made => this.tools(made),
      (table, row) => this.tapped(table, row),
      (figure, span) => this.ranged(figure, span)
    );
    this.note.hidden = true;
    stage.body.append(this.note, this.panel.host, this.sheetBox);
    const sheet = sheetOf(stage.view);
    if (sheet) {
      this.asTable = button(stage.trans.__('Table'), () => this.table(this.sheet === null), {
        title: stage.trans.__('Show the same as a table'),
        pressed: sheet.shown
      });
      this.table(sheet.shown);
    }
    // The server draws no more marks than there are pixels.
    const measure = later(() => {
      const { clientWidth, clientHeight } = stage.body;
      if (clientWidth > 50) stage.move({ width: clientWidth, height: Math.max(200, Math.min(2000, clientHeight)) });
    }, 200);
    this.size = new ResizeObserver(measure);
    this.size.observe(stage.body);
    this.end = onSelect(chosen => {
      if (chosen.session === stage.session) this.highlight(chosen.uid);
    });
  }

  show(shown: Shown): void {
    this.shown = shown;
    write(this.note, String(shown.picture.values['note'] ?? ''));
    this.note.hidden = !this.note.textContent;
    this.panel.push(shown.picture);
    this.sheet?.show(shown.picture);
    for (const refresh of this.refreshers) refresh(shown);
  }

  themed(): void {
    void this.panel.load();
  }

  dispose(): void {
    this.end();
    this.size.disconnect();
    this.panel.dispose();
  }

  private table(on: boolean): void {
    this.asTable?.setAttribute('aria-pressed', String(on));
    const { view, trans, feed } = this.stage;
    this.sheet = on ? new SheetTables(view, trans, (table, row) => this.tapped(table, row), () => feed.ahead) : null;
    fill(this.sheetBox, this.sheet?.element);
    if (this.shown) this.sheet?.show(this.shown.picture);
  }

  private control(kind: Control['kind'], test: (control: Control) => boolean = () => true): Control | undefined {
    return this.controls.find(each => each.kind === kind && test(each));
  }

  private tools(made: Template): void {
    const { bar } = this.stage;
    const focused = bar.contains(document.activeElement);
    this.controls = made.controls ?? [];
    this.refreshers = [];
    bar.replaceChildren();
    for (const each of this.controls) {
      const tool = this.tool(each);
      if (tool) bar.append(tool);
    }
    bar.append(h('span', { class: 'jrm-grow' }), this.panel.keep(() => this.shown?.at ?? Date.now() / 1000));
    if (this.asTable) bar.append(this.asTable);
    if (focused) bar.querySelector<HTMLElement>('button, select, input')?.focus();
    if (this.shown) for (const refresh of this.refreshers) refresh(this.shown);
    const uid = selected(this.stage.session);
    if (uid) this.highlight(uid);
  }

  private tool(control: Control): HTMLElement | null {
    const { stage } = this;
    const { trans } = stage;
    const field = control.field ?? '';
    const label = trans.__(control.label ?? field);
    const value = stage.window()[field];
    if (control.kind === 'choice') {
      const made = h('select', {
        onchange: () => stage.move({ [field]: made.value === control.default ? null : made.value })
      });
      for (const [key, text] of control.choices ?? []) made.append(h('option', { value: key }, trans.__(text)));
      made.value = String(value ?? control.default ?? '');
      return h('label', {}, label, made);
    }
    if (control.kind === 'text') {
      const move = later(() => stage.move({ [field]: made.value.trim() || null }), 300);
      const made = h('input', {
        ...{ type: 'search', placeholder: trans.__(control.hint ?? ''), size: 16, oninput: move },
        value: String(value ?? '')
      });
      made.dataset['field'] = field;
      return h('label', {}, label, made);
    }
    if (control.kind === 'slider') return this.slider(control, label);
    if (control.kind === 'crumbs') return this.crumbs(control, label);
    return null;
  }

  /** Replay: the session as it was at a moment between two values of the picture. */
  private slider(control: Control, label: string): HTMLElement {
    const { stage } = this;
    const { trans } = stage;
    const field = control.field ?? 'at';
    const told = h('output', { class: 'jrm-faint' });
    const live = button(
      trans.__('Now'),
      () => {
        stage.move({ [field]: null });
        refresh(this.shown);
      },
      { title: trans.__('Follow what happens') }
    );
    const moved = later(() => stage.move({ [field]: Number(made.value) }), 60);
    const made = h('input', {
      ...{ type: 'range', min: 0, max: 1, step: 'any', 'aria-label': label },
      oninput: () => {
        write(told, moment(Number(made.value)));
        live.setAttribute('aria-pressed', 'false');
        moved();
      }
    });
    const refresh = (shown: Shown | null): void => {
      const values = shown?.picture.values ?? {};
      const low = Number(values[control.low ?? ''] ?? 0);
      const high = Number(values[control.high ?? ''] ?? shown?.at ?? low + 1);
      made.min = String(low);
      made.max = String(Math.max(high, low + 0.001));
      const at = stage.window()[field];
      if (document.activeElement !== made) made.value = String(at ?? high);
      const text = at === undefined ? trans.__('now') : moment(Number(at));
      write(told, text);
      made.setAttribute('aria-valuetext', text);
      live.setAttribute('aria-pressed', String(at === undefined));
    };
    this.refreshers.push(refresh);
    return h('span', { class: 'jrm-field' }, label, made, told, live);
  }

  private crumbs(control: Control, label: string): HTMLElement {
    const made = h('nav', { class: 'jrm-crumbs', 'aria-label': label });
    let before = '';
    this.refreshers.push(shown => {
      const rows = records(shown.picture, control.table ?? 'crumbs');
      const key = JSON.stringify(rows);
      if (key === before) return;
      before = key;
      const focused = made.contains(document.activeElement);
      fill(made);
      rows.forEach((row, index) => {
        const text = String(row[control.label ?? 'label'] ?? '');
        if (index) made.append(h('span', { 'aria-hidden': 'true' }, '›'));
        if (index === rows.length - 1) made.append(h('span', { 'aria-current': 'location' }, text));
        else made.append(button(text, () => this.drill(control, row), { class: 'jrm-plain' }));
      });
      if (focused) made.querySelector<HTMLElement>('button')?.focus();
    });
    return made;
  }

  private drill(control: Control, row: Record<string, unknown>): void {
    const value = row[control.key ?? 'key'];
    this.stage.move({ [control.field ?? 'focus']: value === '' ? null : value });
  }

  private tapped(table: string, row: Record<string, unknown> | null): void {
    const { stage } = this;
    const choose = this.control('select', each => each.table === table);
    const uid = row && choose ? row[choose.key ?? 'uid'] : '';
    if (choose && typeof uid === 'string' && (uid || !row)) {
      select({ session: stage.session, uid, from: stage });
      if (uid) stage.say(stage.trans.__('%1 is chosen', uid));
    }
    const deeper = this.control('drill', each => each.table === table);
    if (row && deeper && (!deeper.when || row[deeper.when])) this.drill(deeper, row);
  }

  private ranged(figure: string, span: [number, number] | null): void {
    const control = this.control('range', each => each.figure === figure);
    if (control) this.stage.move({ [control.begin ?? 'begin']: span?.[0] ?? null, [control.end ?? 'end']: span?.[1] ?? null });
  }

  private highlight(uid: string): void {
    const control = this.control('text', each => each.field === 'select');
    if (!control) return;
    const input = this.stage.bar.querySelector<HTMLInputElement>('input[data-field=select]');
    if (input && document.activeElement !== input) input.value = uid;
    this.stage.move({ select: uid || null });
  }
}
