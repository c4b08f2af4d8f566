// A table of any length of which only the rows that can be seen exist: the rest is asked for while scrolling.
// Knows rows by number and key, columns by name, and the keyboard; nothing of tasks.

import { fill, h, type Trans } from './dom';

const ROW = 26;
// Browsers draw nothing beyond some 16 million pixels: longer tables scroll by more than one row per row's height.
const TALLEST = 8_000_000;
const MARGIN = 30;

export interface Column {
  name: string;
  title: string;
  width: string;
  /** What it is sorted by; empty: it cannot be. */
  sort: string;
  right?: boolean;
  cell(row: Record<string, any>): Node | string;
}

export interface GridEvents {
  /** Rows from `offset` on are on the screen and not here. */
  wanted(offset: number, limit: number): void;
  sorted(sort: string, order: 'asc' | 'desc'): void;
  /** The rows of these keys are chosen, the last one just now. */
  chosen(keys: string[], last: string): void;
  opened(key: string): void;
}

export class Grid {
  readonly element: HTMLElement;
  private readonly space = h('div', { class: 'jrm-space', role: 'rowgroup' });
  private readonly heads = new Map<string, HTMLElement>();
  private readonly drawn = new Map<number, { element: HTMLElement; row: unknown; marks: string }>();
  private rows: Record<string, any>[] = [];
  private offset = 0;
  private total = 0;
  private active = -1;
  private anchor = -1;
  private keys = new Set<string>();
  private linked = '';
  private asked = '';
  private readonly id = `jrm-grid-${Math.random().toString(36).slice(2, 8)}`;
  private readonly size: ResizeObserver;

  constructor(
    private readonly columns: Column[],
    private readonly events: GridEvents,
    private readonly trans: Trans,
    label: string
  ) {
    const head = h('div', { class: 'jrm-grid-head', role: 'row', 'aria-rowindex': 1 });
    for (const column of columns) {
      const cell = h('div', { role: 'columnheader', class: column.right ? 'jrm-num' : '' });
      if (column.sort) {
        cell.append(
          h('button', { type: 'button', title: trans.__('Sort by this'), onclick: () => this.turn(column) }, column.title)
        );
      } else {
        cell.append(column.title);
      }
      this.heads.set(column.name, cell);
      head.append(cell);
    }
    this.element = h(
      'div',
      {
        ...{ class: 'jrm-grid', role: 'grid', tabindex: 0, 'aria-label': label, 'aria-multiselectable': 'true' },
        onscroll: () => this.draw(),
        onkeydown: (event: KeyboardEvent) => this.key(event)
      },
      h('div', { role: 'rowgroup', style: 'position:sticky;top:0;z-index:2' }, head),
      this.space
    );
    this.element.style.setProperty('--jrm-columns', columns.map(each => each.width).join(' '));
    this.size = new ResizeObserver(() => this.draw());
    this.size.observe(this.element);
  }

  dispose(): void {
    this.size.disconnect();
  }

  /** Show these rows, the first of which is number `offset` of `total`. */
  show(rows: Record<string, any>[], offset: number, total: number): void {
    this.rows = rows;
    this.offset = offset;
    this.asked = '';
    if (total !== this.total) {
      this.total = total;
      this.element.setAttribute('aria-rowcount', String(total + 1));
      this.space.style.height = `${Math.min(TALLEST, total * ROW)}px`;
      if (this.active >= total) this.active = total - 1;
    }
    this.draw();
  }

  /** Say by what it is sorted. */
  order(sort: string, order: string): void {
    for (const column of this.columns) {
      const head = this.heads.get(column.name) as HTMLElement;
      const here = column.sort !== '' && column.sort === sort;
      head.setAttribute('aria-sort', here ? (order === 'desc' ? 'descending' : 'ascending') : 'none');
      if (!column.sort) head.removeAttribute('aria-sort');
      const mark = here ? (order === 'desc' ? ' ↓' : ' ↑') : '';
      (head.firstElementChild ?? head).textContent = column.title + mark;
    }
  }

  /** Mark the row of a key that was chosen elsewhere. */
  link(key: string): void {
    this.linked = key;
    this.draw();
  }

  choose(keys: string[]): void {
    this.keys = new Set(keys);
    this.draw();
  }

  top(): void {
    this.element.scrollTop = 0;
    this.active = this.anchor = -1;
  }

  private turn(column: Column): void {
    const now = this.heads.get(column.name)?.getAttribute('aria-sort');
    this.events.sorted(column.sort, now === 'ascending' ? 'desc' : 'asc');
  }

  /** Too long for one pixel per pixel: what is scrolled is then the share of the way to the last row. */
  private get long(): boolean {
    return this.total * ROW > TALLEST;
  }

  /** The row at the upper edge, with a fraction. */
  private get first(): number {
    const { scrollTop, scrollHeight, clientHeight } = this.element;
    if (!this.long) return scrollTop / ROW;
    return (scrollTop / Math.max(1, scrollHeight - clientHeight)) * Math.max(0, this.total - this.room);
  }

  private set first(row: number) {
    const { scrollHeight, clientHeight } = this.element;
    const way = Math.max(1, this.total - this.room);
    this.element.scrollTop = this.long ? (row / way) * (scrollHeight - clientHeight) : row * ROW;
  }

  private get room(): number {
    return Math.max(1, Math.floor((this.element.clientHeight - 28) / ROW));
  }

  private draw(): void {
    const top = this.element.scrollTop;
    const { first, long } = this;
    const from = Math.max(0, Math.floor(first) - 4);
    const to = Math.min(this.total, Math.ceil(first) + this.room + 6);
    for (const [index, each] of this.drawn) {
      if (index < from || index >= to) {
        each.element.remove();
        this.drawn.delete(index);
      }
    }
    for (let index = from; index < to; index++) {
      const row = this.rows[index - this.offset];
      const key = row ? String(row['uid']) : '';
      const marks = `${this.keys.has(key)} ${index === this.active} ${key !== '' && key === this.linked}`;
      let here = this.drawn.get(index);
      if (!here || here.row !== row || here.marks !== marks) {
        const made = here?.element ?? this.made(index);
        if (!here || here.row !== row) this.cells(made, row);
        made.setAttribute('aria-selected', String(this.keys.has(key)));
        made.classList.toggle('jrm-linked', key !== '' && key === this.linked);
        here = { element: made, row, marks };
        this.drawn.set(index, here);
      }
      here.element.style.top = `${long ? top + (index - first) * ROW : index * ROW}px`;
      if (!here.element.isConnected) this.space.append(here.element);
    }
    const active = this.drawn.get(this.active)?.element;
    if (active) this.element.setAttribute('aria-activedescendant', active.id);
    else this.element.removeAttribute('aria-activedescendant');
    this.want(Math.floor(first), to);
  }

  private want(first: number, to: number): void {
    const last = this.offset + this.rows.length;
    if (this.total === 0 || (first >= this.offset && to <= last)) return;
    const offset = Math.max(0, first - MARGIN);
    const limit = Math.min(1000, Math.max(100, this.room + 2 * MARGIN + 10));
    const asked = `${offset} ${limit}`;
    if (asked === this.asked) return;
    this.asked = asked;
    this.events.wanted(offset, limit);
  }

  private made(index: number): HTMLElement {
    return h('div', {
      ...{ class: 'jrm-row', role: 'row', id: `${this.id}-${index}`, 'aria-rowindex': index + 2 },
      onclick: (event: MouseEvent) => this.pick(index, event.shiftKey, event.ctrlKey || event.metaKey),
      ondblclick: () => this.open(index)
    });
  }

  private cells(element: HTMLElement, row: Record<string, any> | undefined): void {
    fill(element);
    for (const column of this.columns) {
      const cell = h('div', { role: 'gridcell', class: column.right ? 'jrm-num' : '' });
      cell.append(row ? column.cell(row) : column === this.columns[0] ? '…' : '');
      if (row && cell.textContent && cell.textContent.length > 12) cell.title = cell.textContent;
      element.append(cell);
    }
  }

  private at(index: number): string {
    return String(this.rows[index - this.offset]?.['uid'] ?? '');
  }

  private pick(index: number, range: boolean, more: boolean): void {
    const key = this.at(index);
    if (!key) return;
    if (range && this.anchor >= 0) {
      const [low, high] = [Math.min(this.anchor, index), Math.max(this.anchor, index)];
      for (let each = low; each <= high; each++) if (this.at(each)) this.keys.add(this.at(each));
    } else if (more) {
      if (!this.keys.delete(key)) this.keys.add(key);
      this.anchor = index;
    } else {
      this.keys = new Set([key]);
      this.anchor = index;
    }
    this.active = index;
    this.draw();
    this.events.chosen([...this.keys], key);
    if (!range && !more) this.events.opened(key);
  }

  private open(index: number): void {
    if (this.at(index)) this.events.opened(this.at(index));
  }

  private key(event: KeyboardEvent): void {
    if (event.target !== this.element) return;
    const steps: Record<string, number> = {
      ...{ ArrowDown: 1, ArrowUp: -1, PageDown: this.room, PageUp: -this.room, Home: -this.total, End: this.total }
    };
    const step = steps[event.key];
    if (step !== undefined) {
      this.active = Math.max(0, Math.min(this.total - 1, this.active + step));
      if (event.shiftKey && this.anchor >= 0) this.pick(this.active, true, false);
      this.reveal(this.active);
    } else if (event.key === 'Enter') {
      this.pick(this.active, false, false);
    } else if (event.key === ' ') {
      this.pick(this.active, false, true);
    } else if (event.key === 'Escape') {
      this.keys.clear();
      this.draw();
      this.events.chosen([], '');
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  }

  private reveal(index: number): void {
    if (index < this.first) this.first = index;
    else if (index > this.first + this.room - 1) this.first = index - this.room + 1;
    this.draw();
  }

  get label(): string {
    return this.trans.__('%1 rows', this.total);
  }
}
