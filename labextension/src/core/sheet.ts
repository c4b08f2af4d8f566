// What a figure shows, as a plain table: for those who cannot see or point, and where words say more than marks.
// Knows columns by view; what a click on a row does is the figure's business.

import { button, fill, h, type Child, type Trans } from './dom';
import { stateOf } from './parts';
import { records, type Picture, type Table } from './picture';
import { MARKS, moment, number, span } from './texts';

const MOST = 200;

interface Column {
  name: string;
  title: (trans: Trans) => string;
  kind?: 'state' | 'seconds' | 'ms' | 'number' | 'wait' | 'place';
}

interface Sheet {
  table: string;
  /** It stands below the figure from the beginning. */
  shown: boolean;
  columns: Column[];
}

const SHEETS: Record<string, Sheet> = {
  queue: {
    table: 'queue',
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
      { name: 'running', title: trans => trans.__('Running'), kind: 'number' },
      { name: 'done', title: trans => trans.__('Done'), kind: 'number' },
      { name: 'failed', title: trans => trans.__('Failed'), kind: 'number' },
      { name: 'text', title: trans => trans.__('What it holds') }
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

/** Return what the sheet of a view is, if it has one. */
export function sheetOf(view: string): { shown: boolean } | undefined {
  return SHEETS[view];
}

export class SheetTable {
  readonly element: HTMLElement;
  private readonly body = h('tbody', {});
  private readonly more = h('div', { class: 'jrm-faint' });
  private readonly sheet: Sheet;
  private drawn: Table | null = null;

  constructor(
    view: string,
    private readonly trans: Trans,
    private readonly tapped: (table: string, row: Record<string, unknown>) => void
  ) {
    this.sheet = SHEETS[view] as Sheet;
    const heads = this.sheet.columns.map(column =>
      h('th', { scope: 'col', class: column.kind === 'number' ? 'jrm-num' : '' }, column.title(trans))
    );
    const table = h('table', { class: 'jrm-sheet' }, h('thead', {}, h('tr', {}, ...heads)), this.body);
    // What can be scrolled must be reachable without a pointer.
    const box = h('div', { class: 'jrm-sheet-box', tabindex: 0, role: 'region', 'aria-label': trans.__('As a table') });
    box.append(table, this.more);
    this.element = box;
  }

  show(picture: Picture, now: number): void {
    const table = picture.tables[this.sheet.table] ?? null;
    if (table === this.drawn) return;
    this.drawn = table;
    const rows = records(picture, this.sheet.table);
    const focused = (document.activeElement as HTMLElement | null)?.dataset['key'];
    const held = this.body.contains(document.activeElement);
    const key = table?.columns[0] ?? '';
    fill(this.body, ...rows.slice(0, MOST).map(row => this.row(row, String(row[key]), now)));
    if (held && focused) this.body.querySelector<HTMLElement>(`[data-key="${CSS.escape(focused)}"]`)?.focus();
    this.more.textContent =
      rows.length > MOST
        ? this.trans.__('The first %1 of %2', number(MOST), number(rows.length))
        : rows.length
          ? ''
          : this.trans.__('Nothing yet');
  }

  private row(row: Record<string, any>, key: string, now: number): HTMLElement {
    const made = h('tr', { class: row['lit'] ? 'jrm-linked' : '' });
    this.sheet.columns.forEach((column, place) => {
      const value = this.cell(column, row, now);
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

  private cell(column: Column, row: Record<string, any>, now: number): Child {
    const value = row[column.name];
    if (column.kind === 'wait') {
      const end = row['started_at'] || row['ended_at'] || now;
      return value ? span(end - value) : '';
    }
    if (value === null || value === undefined || value === '') return '';
    if (column.kind === 'state') return MARKS[value] ? stateOf(value) : String(value).toLowerCase();
    if (column.kind === 'seconds') return moment(value);
    if (column.kind === 'ms') return moment(value / 1000);
    if (column.kind === 'number') return typeof value === 'number' ? number(Math.round(value * 10) / 10) : String(value);
    if (column.kind === 'place') return row['length'] ? this.trans.__('%1 of %2', value, row['length']) : String(value);
    return String(value);
  }
}
