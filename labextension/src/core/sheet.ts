// What a figure shows, as plain tables: for those who cannot see or point, and where words say more than marks.
// Knows columns by view; what a click on a row does is the figure's business.

import { button, fill, h, write, type Child, type Trans } from './dom';
import { since, stateOf } from './parts';
import { records, type Picture, type Table } from './picture';
import { MARKS, moment, number, span } from './texts';

const MOST = 200;

interface Column {
  name: string;
  title: (trans: Trans) => string;
  /** It is left out while no row has anything in it. */
  seldom?: boolean;
  kind?: 'state' | 'seconds' | 'ms' | 'number' | 'wait' | 'place' | 'user' | 'age' | 'moved' | 'words';
}

interface Sheet {
  table: string;
  /** What it is called where a view has several; one of several without rows is not seen. */
  title?: (trans: Trans) => string;
  /** A value of the picture that says what is missing. */
  note?: string;
  /** It stands below the figure from the beginning. */
  shown: boolean;
  columns: Column[];
}

const JOBS: Sheet = {
  table: 'jobs',
  title: trans => trans.__('Everybody’s jobs, by their place in the line'),
  note: 'others_note',
  shown: true,
  columns: [
    { name: 'id', title: trans => trans.__('Job') },
    { name: 'position', title: trans => trans.__('Place'), kind: 'place' },
    { name: 'user', title: trans => trans.__('User'), kind: 'user' },
    { name: 'state', title: trans => trans.__('State') },
    { name: 'reason', title: trans => trans.__('Reason') },
    { name: 'submit', title: trans => trans.__('Waited'), kind: 'wait' },
    { name: 'estimate', title: trans => trans.__('Expected'), kind: 'seconds' },
    { name: 'queue', title: trans => trans.__('Queue') },
    { name: 'nodes', title: trans => trans.__('Nodes'), kind: 'number' },
    { name: 'hosts', title: trans => trans.__('On') },
    { name: 'site', title: trans => trans.__('Site') }
  ]
};

const PLACES: Sheet = {
  table: 'places',
  title: trans => trans.__('Sites, as they were heard of last'),
  shown: true,
  columns: [
    { name: 'key', title: trans => trans.__('Site') },
    { name: 'title', title: trans => trans.__('Batch system') },
    { name: 'jobs', title: trans => trans.__('Your jobs'), kind: 'number' },
    { name: 'others', title: trans => trans.__('Others’'), kind: 'number' },
    { name: 'up', title: trans => trans.__('Nodes up'), kind: 'number' },
    { name: 'free', title: trans => trans.__('Free'), kind: 'number' },
    { name: 'mixed', title: trans => trans.__('Mixed'), kind: 'number' },
    { name: 'busy', title: trans => trans.__('Busy'), kind: 'number' },
    { name: 'drained', title: trans => trans.__('Drained'), kind: 'number' },
    { name: 'down', title: trans => trans.__('Down'), kind: 'number' },
    { name: 'heard_queue', title: trans => trans.__('Jobs heard'), kind: 'age' },
    { name: 'heard_nodes', title: trans => trans.__('Nodes heard'), kind: 'age' },
    { name: 'source', title: trans => trans.__('Heard from'), kind: 'words', seldom: true },
    { name: 'number', title: trans => trans.__('Collection'), kind: 'number' },
    { name: 'failure', title: trans => trans.__('What failed since'), kind: 'words', seldom: true }
  ]
};

const SHEETS: Record<string, Sheet> = {
  queue: {
    table: 'queue',
    title: trans => trans.__('Your pilots'),
    shown: true,
    columns: [
      { name: 'uid', title: trans => trans.__('Pilot') },
      { name: 'site', title: trans => trans.__('Site') },
      { name: 'state', title: trans => trans.__('State'), kind: 'state' },
      { name: 'reason', title: trans => trans.__('Reason') },
      { name: 'position', title: trans => trans.__('Place'), kind: 'place' },
      { name: 'asked_at', title: trans => trans.__('Waited'), kind: 'wait' },
      { name: 'estimate', title: trans => trans.__('Expected'), kind: 'seconds' },
      { name: 'source', title: trans => trans.__('Says who') },
      { name: 'certainty', title: trans => trans.__('How sure'), kind: 'moved' },
      { name: 'queue', title: trans => trans.__('Queue') },
      { name: 'nodes', title: trans => trans.__('Nodes'), kind: 'number' },
      { name: 'cores', title: trans => trans.__('Cores'), kind: 'number' },
      { name: 'job_id', title: trans => trans.__('Job') }
    ]
  },
  nodes: {
    table: 'cells',
    shown: false,
    columns: [
      { name: 'label', title: trans => trans.__('Place') },
      { name: 'state', title: trans => trans.__('State'), kind: 'state' },
      { name: 'nodes', title: trans => trans.__('Nodes'), kind: 'number' },
      { name: 'cores', title: trans => trans.__('Cores'), kind: 'number' },
      { name: 'busy', title: trans => trans.__('Busy'), kind: 'number' },
      { name: 'gpus', title: trans => trans.__('GPUs'), kind: 'number' },
      { name: 'gpus_busy', title: trans => trans.__('GPUs busy'), kind: 'number' },
      { name: 'running', title: trans => trans.__('Running'), kind: 'number' },
      { name: 'done', title: trans => trans.__('Done'), kind: 'number' },
      { name: 'failed', title: trans => trans.__('Failed'), kind: 'number' },
      { name: 'tasks', title: trans => trans.__('Tasks') }
    ]
  },
  timeline: {
    table: 'bars',
    shown: false,
    columns: [
      { name: 'uid', title: trans => trans.__('Task') },
      { name: 'state', title: trans => trans.__('State'), kind: 'state' },
      { name: 'x', title: trans => trans.__('From'), kind: 'ms' },
      { name: 'x1', title: trans => trans.__('To'), kind: 'ms' },
      { name: 'text', title: trans => trans.__('What') }
    ]
  },
  usage: {
    table: 'usage',
    shown: false,
    columns: [
      { name: 'x', title: trans => trans.__('Until'), kind: 'ms' },
      { name: 'held', title: trans => trans.__('Held'), kind: 'number' },
      { name: 'busy', title: trans => trans.__('Busy'), kind: 'number' },
      { name: 'used', title: trans => trans.__('Used, %'), kind: 'number' },
      { name: 'started', title: trans => trans.__('Started'), kind: 'number' },
      { name: 'ended', title: trans => trans.__('Ended'), kind: 'number' },
      { name: 'failed', title: trans => trans.__('Failed'), kind: 'number' }
    ]
  }
};

// Further ones, below the first.
const MORE: Record<string, Sheet[]> = { queue: [JOBS, PLACES] };

/** Return what the sheet of a view is, if it has one. */
export function sheetOf(view: string): { shown: boolean } | undefined {
  return SHEETS[view];
}

type Tapped = (table: string, row: Record<string, unknown>) => void;

/** All sheets of a view. */
export class SheetTables {
  readonly element = h('div', {});
  private readonly all: SheetTable[];

  /** @param ahead how far the server's clock is ahead, seconds */
  constructor(view: string, trans: Trans, tapped: Tapped, ahead: () => number) {
    const sheets = [SHEETS[view] as Sheet, ...(MORE[view] ?? [])];
    this.all = sheets.map(sheet => new SheetTable(sheet, trans, tapped, ahead));
    this.element.append(...this.all.map(each => each.element));
  }

  show(picture: Picture): void {
    for (const each of this.all) each.show(picture);
  }
}

class SheetTable {
  readonly element: HTMLElement;
  private readonly body = h('tbody', {});
  private readonly heads: HTMLElement[];
  private left = new Set<Column>();
  private readonly more = h('div', { class: 'jrm-faint' });
  private drawn: Table | null = null;

  constructor(
    private readonly sheet: Sheet,
    private readonly trans: Trans,
    private readonly tapped: Tapped,
    private readonly ahead: () => number
  ) {
    this.heads = this.sheet.columns.map(column =>
      h('th', { scope: 'col', class: column.kind === 'number' ? 'jrm-num' : '' }, column.title(trans))
    );
    const table = h('table', { class: 'jrm-sheet' }, h('thead', {}, h('tr', {}, ...this.heads)), this.body);
    const title = this.sheet.title?.(trans);
    const label = title ?? trans.__('As a table');
    // What can be scrolled must be reachable without a pointer.
    const box = h('div', { class: 'jrm-sheet-box', tabindex: 0, role: 'region', 'aria-label': label }, table);
    this.element = h('div', { class: `jrm-sheet-of-${this.sheet.table}` }, title ? h('h3', {}, title) : null, box, this.more);
  }

  show(picture: Picture): void {
    const table = picture.tables[this.sheet.table] ?? null;
    const missing = this.sheet.note ? String(picture.values[this.sheet.note] ?? '') : '';
    if (this.sheet.title) this.element.hidden = !missing && !table?.rows.length;
    if (table === this.drawn && !missing) return;
    (this.body.closest('.jrm-sheet-box') as HTMLElement).hidden = Boolean(missing) && !table?.rows.length;
    this.drawn = table;
    const rows = records(picture, this.sheet.table);
    this.left = new Set(this.sheet.columns.filter(column => column.seldom && !rows.some(row => row[column.name])));
    this.heads.forEach((head, place) => (head.hidden = this.left.has(this.sheet.columns[place] as Column)));
    const focused = (document.activeElement as HTMLElement | null)?.dataset['key'];
    const held = this.body.contains(document.activeElement);
    const key = table?.columns[0] ?? '';
    fill(this.body, ...rows.slice(0, MOST).map(row => this.row(row, String(row[key]))));
    if (held && focused) this.body.querySelector<HTMLElement>(`[data-key="${CSS.escape(focused)}"]`)?.focus();
    const more = rows.length > MOST ? this.trans.__('The first %1 of %2', number(MOST), number(rows.length)) : '';
    write(this.more, missing || more || (rows.length ? '' : this.trans.__('Nothing yet')));
  }

  private row(row: Record<string, any>, key: string): HTMLElement {
    const made = h('tr', { class: [row['lit'] && 'jrm-linked', row['mine'] && 'jrm-own'].filter(Boolean).join(' ') });
    this.sheet.columns.forEach((column, place) => {
      if (this.left.has(column)) return;
      const value = this.cell(column, row);
      const cell = h(place ? 'td' : 'th', { class: column.kind === 'number' ? 'jrm-num' : '', scope: place ? null : 'row' });
      if (place || column.kind) {
        cell.append(value instanceof Node ? value : String(value ?? ''));
      } else {
        const lead = button(value || '–', () => this.tapped(this.sheet.table, row), { class: 'jrm-plain' });
        lead.dataset['key'] = key;
        cell.append(lead);
      }
      made.append(cell);
    });
    return made;
  }

  private cell(column: Column, row: Record<string, any>): Child {
    const value = row[column.name];
    if (column.kind === 'wait') {
      const end = row['started_at'] || row['ended_at'] || row['start'];
      if (!value) return '';
      return end ? span(end - value) : since(value, this.ahead());
    }
    if (value === null || value === undefined || value === '') return '';
    if (column.kind === 'state') return MARKS[value] ? stateOf(value) : String(value).toLowerCase();
    if (column.kind === 'seconds') return moment(value);
    if (column.kind === 'age') return h('span', { class: 'jrm-age' }, since(value, this.ahead()), this.trans.__(' ago'));
    // Sentences with paths in them: they are broken anywhere rather than push other columns out of sight.
    if (column.kind === 'words') return h('span', { class: 'jrm-words' }, String(value));
    if (column.kind === 'user') return this.user(row);
    if (column.kind === 'moved') return this.moved(String(value), row);
    if (column.kind === 'ms') return moment(value / 1000);
    if (column.kind === 'number') return typeof value === 'number' ? number(Math.round(value * 10) / 10) : String(value);
    if (column.kind === 'place') return row['length'] ? this.trans.__('%1 of %2', value, row['length']) : String(value);
    return String(value);
  }

  /** A user's colour is the same in the figure and on the node map. */
  private user(row: Record<string, any>): Child {
    const dot = h('i', { class: `jrm-dot jrm-h-${String(row['color'])}`, 'aria-hidden': 'true' });
    return h('span', { class: 'jrm-state' }, dot, row['mine'] ? this.trans.__('%1 (you)', row['user']) : String(row['user']));
  }

  /** How sure a start is: in words, and between which moments. */
  private moved(text: string, row: Record<string, any>): Child {
    const { earliest, latest } = row;
    if (!earliest || latest - earliest < 60) return text;
    return h('span', { title: this.trans.__('between %1 and %2', moment(earliest), moment(latest)) }, text);
  }
}
