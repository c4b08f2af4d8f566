// What a view shows: named values and keyed tables, and the rule by which a frame changes them.
// The same rule in Python is jupyter_rm.views.feed.patch; docs/server.md says it in words. Read next: cells.ts, feed.ts.

import { changed, rowwise, type CellPart } from './cells';

export type Cell = string | number | boolean | null | readonly unknown[] | Record<string, unknown>;

/** Rows in order; the first cell of a row is its key. */
export interface Table {
  readonly columns: readonly string[];
  readonly rows: readonly (readonly Cell[])[];
}

export interface Picture {
  readonly values: Readonly<Record<string, any>>;
  readonly tables: Readonly<Record<string, Table>>;
}

/** What happened and what to do; how the server words errors. */
export interface Trouble {
  readonly code: string;
  readonly message: string;
  readonly hint: string;
  readonly retry: boolean;
}

interface TablePart extends CellPart {
  gone?: number[];
  rows?: Cell[][];
  new?: [number[], Cell[][]];
}

export interface Frame extends Partial<Trouble> {
  kind: 'hello' | 'snapshot' | 'delta' | 'same' | 'lost' | 'error';
  id?: string | null;
  /** Of a hello: the format of frames. */
  feed?: number;
  seq?: number;
  cursor?: string;
  at?: number;
  values?: Record<string, any>;
  dropped?: string[];
  tables?: Record<string, any>;
}

export const EMPTY: Picture = { values: {}, tables: {} };

/** Return what is shown after a frame; throws when the frame does not belong to what is shown. */
export function patch(shown: Picture, frame: Frame): Picture {
  if (frame.kind === 'same') return shown;
  if (frame.kind === 'snapshot') return { values: frame.values ?? {}, tables: frame.tables ?? {} };
  const values: Record<string, any> = { ...shown.values };
  for (const name of frame.dropped ?? []) delete values[name];
  Object.assign(values, frame.values);
  const tables: Record<string, Table> = { ...shown.tables };
  for (const [name, part] of Object.entries(frame.tables ?? {})) {
    const before = tables[name];
    if (!before) throw new Error(`a change of a table that is not shown: ${name}`);
    tables[name] = { columns: before.columns, rows: merge(before, part as TablePart) };
  }
  return { values, tables };
}

function merge(before: Table, part: TablePart): Table['rows'] {
  const gone = new Set(part.gone ?? []);
  const whole = new Map((part.rows ?? []).map(row => [row[0], row]));
  const stay = gone.size ? before.rows.filter((_, place) => !gone.has(place)) : before.rows;
  const kept = changed(before.columns, stay, part).map(row => whole.get(row[0] as Cell) ?? row);
  if (!part.new) return kept;
  const [places, columns] = part.new;
  const fresh = rowwise(columns, places.length);
  // Positions rise and are those in the result, so that one walk puts all of them in.
  const merged: (readonly Cell[])[] = [];
  let next = 0;
  places.forEach((place, index) => {
    while (merged.length < place && next < kept.length) merged.push(kept[next++] as readonly Cell[]);
    merged.push(fresh[index] as Cell[]);
  });
  while (next < kept.length) merged.push(kept[next++] as readonly Cell[]);
  return merged;
}

/** Return the rows of a table as objects; no rows when the table is not there. */
export function records(picture: Picture, name: string): Record<string, any>[] {
  const table = picture.tables[name];
  if (!table) return [];
  return table.rows.map(row => Object.fromEntries(table.columns.map((column, index) => [column, row[index]])));
}

/** Return a table by columns, as BokehJS wants it. */
export function columns(table: Table): Record<string, Cell[]> {
  return Object.fromEntries(table.columns.map((name, index) => [name, table.rows.map(row => row[index] ?? null)]));
}
