// A figure: Bokeh's template of a view from the server, filled with the tables of the feed.
// BokehJS comes once per page from the server's installed package. The figure holds no data of its own; what a person
// does in it (a click on a row, a zoom) is told to whoever made it. Knows nothing of windows and sessions.

import { columns, records, type Picture, type Table } from './picture';
import { ServerError, type Server } from './server';
import { number } from './texts';

/** What a person can change about a view, see jupyter_rm/views/controls.py. */
export interface Control {
  kind: 'choice' | 'text' | 'slider' | 'range' | 'crumbs' | 'drill' | 'select';
  field?: string;
  label?: string;
  hint?: string;
  choices?: [string, string][];
  default?: string;
  low?: string;
  high?: string;
  figure?: string;
  begin?: string;
  end?: string;
  table?: string;
  key?: string;
  when?: string;
}

export interface Template {
  view: string;
  theme?: string;
  version: string;
  bokeh: string;
  doc: Record<string, unknown>;
  sources: Record<string, string>;
  times?: Record<string, string[]>;
  /** Table, column, parts of a text made from other columns: those that must hold something, and the words. */
  said?: Record<string, Record<string, [string[], string][]>>;
  /** Parts that are seen only while a table has rows, by name. */
  optional?: Record<string, string>;
  controls?: Control[];
}

export interface FigureEvents {
  /** A row of a table was clicked; null: beside all rows. */
  tapped(table: string, row: Record<string, unknown> | null): void;
  /** The x axis of the figure of a name shows this span, seconds since 1970; null: all of it. */
  ranged(figure: string, span: [number, number] | null): void;
}

type Any = any; // models of BokehJS, whose types are not on the page's side

let loading: Promise<Any> | undefined;

/** Load BokehJS once per page. */
async function bokeh(server: Server, version: string): Promise<Any> {
  const root = globalThis as Any;
  const found = (): Any => root.Bokeh?.[version] ?? (root.Bokeh?.version === version ? root.Bokeh : undefined);
  if (found()) return found();
  loading ??= script(server, version).finally(() => (loading = undefined));
  await loading;
  if (found()) return found();
  throw new ServerError(
    'JRM-W06',
    `BokehJS ${version} cannot be used on this page`,
    'reload the page; the tables go on',
    true,
    0
  );
}

async function script(server: Server, version: string): Promise<void> {
  const url = server.url(`static/bokeh/bokeh.min.js?v=${encodeURIComponent(version)}`);
  if (!server.place.token && !server.place.fetch) return element(url);
  // A page from elsewhere has no cookie: fetch it with the token.
  const answer = await server.fetch(url, { method: 'GET' });
  if (!answer.ok) {
    throw new ServerError('JRM-W06', `BokehJS: answer ${answer.status}`, 'is bokeh installed there?', true, answer.status);
  }
  const blob = URL.createObjectURL(new Blob([await answer.text()], { type: 'text/javascript' }));
  try {
    await element(blob);
  } finally {
    URL.revokeObjectURL(blob);
  }
}

/** BokehJS 3.9 draws a stepped area of no points for ever (a loop that misses its end): let it draw nothing. */
function mend(lib: Any): void {
  const view = lib.Models?.get?.('VAreaStep')?.prototype?.default_view?.prototype;
  if (!view?._paint || view.jrmMended) return;
  const paint = view._paint;
  view.jrmMended = true;
  view._paint = function (this: Any, context: unknown, indices: unknown, data: Any) {
    if ((data?.sx ?? this.sx)?.length) paint.call(this, context, indices, data);
  };
}

const TIP = (paper: string, text: string, faint: string, line: string): string =>
  `:host { --tooltip-color: ${paper}; --tooltip-text: ${text}; --tooltip-border: ${line};
    --tooltip-arrow-color: ${paper}; border-radius: 4px; max-width: 480px; opacity: 1; }
  .bk-tooltip-row-label { color: ${faint}; }
  .bk-tooltip-row-value { overflow-wrap: anywhere; }`;
const TIPS: Record<string, string> = {
  light: TIP('#ffffff', '#1f2328', '#57606a', '#b9bec5'),
  dark: TIP('#2b2f36', '#e6e8eb', '#a8adb5', '#5b616a')
};

/** Tooltips hang on the page's body and know no theme: they are told that of their figure. */
function dress(view: Any, theme: string): void {
  for (const tip of view?.ttmodels?.values?.() ?? []) tip.stylesheets = [TIPS[theme] ?? TIPS['light']];
  for (const each of view?.children_views?.() ?? []) dress(each, theme);
}

function element(url: string): Promise<void> {
  return new Promise((done, failed) => {
    const made = document.createElement('script');
    made.src = url;
    made.onload = () => done();
    made.onerror = () =>
      failed(new ServerError('JRM-W06', 'BokehJS cannot be loaded', 'is the Jupyter server there, with bokeh?', true, 0));
    document.head.append(made);
  });
}

const templates = new Map<string, Promise<Template>>();

/** Ask for the template of a view, once per page and theme. */
export function template(server: Server, view: string, theme: string): Promise<Template> {
  const key = `${server.key} ${view} ${theme}`;
  let found = templates.get(key);
  if (!found) {
    found = server.ask(`figures/${view}?theme=${theme}`) as Promise<Template>;
    templates.set(key, found);
    // A failure is not remembered.
    found.catch(() => templates.delete(key));
  }
  return found;
}

/** Minutes that the page's clock is ahead of UTC, as milliseconds: Bokeh shows times as they are given. */
function zone(ms: number): number {
  return -new Date(ms).getTimezoneOffset() * 60_000;
}

/** Return what is said of a row, see jupyter_rm/views/said.py. */
function said(parts: [string[], string][], row: Record<string, any>): string {
  const shown = (value: unknown): string => (typeof value === 'number' ? number(value) : String(value ?? ''));
  return parts
    .filter(([needs]) => needs.every(name => row[name]))
    .map(([, words]) => words.replace(/\{(\w+)\}/g, (_, name: string) => shown(row[name])))
    .join(', ');
}

export class Figure {
  private views: Any = null;
  private document: Any = null;
  private readonly shown = new Map<string, Table>();
  private gone = false;
  /** Selections and ranges that we set ourselves are not a person's doing. */
  private quiet = false;

  constructor(
    private readonly host: HTMLElement,
    readonly made: Template,
    private readonly events: FigureEvents
  ) {}

  /** Draw the empty figure. */
  async open(server: Server): Promise<void> {
    const lib = await bokeh(server, this.made.bokeh);
    if (this.gone) return;
    const doc = structuredClone(this.made.doc);
    this.host.replaceChildren();
    mend(lib);
    const views = await lib.embed.embed_item(doc, this.host);
    this.views = views;
    const root = (views.roots ?? [...views])[0];
    this.document = root.model.document;
    dress(root, this.made.theme ?? 'light');
    if (this.gone) return this.dispose();
    for (const table of Object.keys(this.made.sources)) this.listen(table);
    for (const control of this.made.controls ?? []) if (control.kind === 'range') this.range(control.figure ?? '');
  }

  private source(table: string): Any {
    const name = this.made.sources[table];
    return name ? this.document?.get_model_by_name(name) : null;
  }

  private listen(table: string): void {
    const source = this.source(table);
    source?.selected?.properties.indices.change.connect(() => {
      if (this.quiet) return;
      const index = source.selected.indices[0];
      const data = this.shown.get(table);
      const cells = index === undefined ? undefined : data?.rows[index];
      this.events.tapped(
        table,
        cells && data ? Object.fromEntries(data.columns.map((name, at) => [name, cells[at]])) : null
      );
    });
  }

  private range(name: string): void {
    const range = this.document?.get_model_by_name(name)?.x_range;
    if (!range) return;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const told = (): void => {
      clearTimeout(timer);
      timer = setTimeout(() => {
        if (this.gone || this.quiet) return;
        // A range that a person has moved follows the data no more, until it is reset.
        const moved = Boolean(range.have_updated_interactively);
        const at = (ms: number): number => (ms - zone(ms)) / 1000;
        this.events.ranged(name, moved ? [at(range.start), at(range.end)] : null);
      }, 150);
    };
    range.properties.start.change.connect(told);
    range.properties.end.change.connect(told);
  }

  /** Show the tables of a picture; those that did not change cost nothing. */
  push(picture: Picture): void {
    if (!this.document) return;
    for (const table of Object.keys(this.made.sources)) {
      const data = picture.tables[table];
      const source = this.source(table);
      if (!data || !source || this.shown.get(table) === data) continue;
      this.shown.set(table, data);
      const made = columns(data) as Record<string, unknown[]>;
      for (const name of this.made.times?.[table] ?? []) {
        made[name] = (made[name] ?? []).map(each => (typeof each === 'number' ? each + zone(each) : each));
      }
      for (const [name, parts] of Object.entries(this.made.said?.[table] ?? {})) {
        made[name] = records(picture, table).map(row => said(parts, row));
      }
      this.quiet = true;
      try {
        // Rows may stand at other places now: what was clicked is told by its key elsewhere.
        if (source.selected.indices.length) source.selected.indices = [];
        source.data = made;
      } finally {
        this.quiet = false;
      }
    }
    this.optional(picture);
  }

  /** What is drawn now, all figures of it in one; null before it is. */
  canvas(): HTMLCanvasElement | null {
    const root = this.views && (this.views.roots ?? [...this.views])[0];
    return root?.export?.('png').canvas ?? null;
  }

  private optional(picture: Picture): void {
    for (const [name, table] of Object.entries(this.made.optional ?? {})) {
      const part = this.document.get_model_by_name(name);
      const seen = Boolean(picture.tables[table]?.rows.length);
      if (part && part.visible !== seen) part.visible = seen;
    }
  }

  dispose(): void {
    this.gone = true;
    const views = this.views;
    this.views = this.document = null;
    try {
      views?.clear?.();
    } catch (error) {
      console.warn('jupyter_rm: a figure did not go quietly', error);
    }
    this.host.replaceChildren();
  }
}
