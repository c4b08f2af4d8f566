// Changes of the cells of a table whose rows stay, column by column: the same rule as jupyter_rm/views/cells.py, which
// says what it is for. Knows rows only. Read next: picture.ts.

import type { Cell } from './picture';

/** Unit, lowest, base, digits, scale: value += unit * (lowest + digit) / scale, for every row that holds a number. */
type Added = [number, number, number, string, number?];
/** Steps from changed row to changed row, none: all rows; new values, or one for all of them, or those that digits pick. */
type Told = [number[] | string, Cell[], string?];

export interface CellPart {
  add?: Record<string, Added>;
  cells?: Record<string, Told>;
}

type Rows = readonly (readonly Cell[])[];

// Printable characters that are one byte in JSON.
const DIGITS = Array.from({ length: 95 }, (_, at) => String.fromCharCode(32 + at)).filter(c => c !== '"' && c !== '\\').join('');

function perCharacter(base: number): number {
  for (let count = 6; count > 1; count--) if (base ** count <= DIGITS.length) return count;
  return 1;
}

/** Return rows that are told by columns. */
export function rowwise(columns: readonly (readonly Cell[])[], count: number): Cell[][] {
  const cell = (column: readonly Cell[], at: number): Cell => (column.length > 1 ? column[at] : column[0]) as Cell;
  return Array.from({ length: count }, (_, at) => columns.map(column => cell(column, at)));
}

/** Return rows after a change of their cells; throws when the change does not belong to them. */
export function changed(columns: readonly string[], rows: Rows, part: CellPart): Rows {
  if (!part.add && !part.cells) return rows;
  const made: (readonly Cell[])[] = [...rows];
  const mine = new Set<number>();
  // Rows are shared with the picture before: one that changes is copied first.
  const set = (place: number, column: number, value: Cell): void => {
    const row = made[place];
    if (!row) throw new Error(`a change of row ${place} of ${rows.length}`);
    const next = mine.has(place) ? (row as Cell[]) : [...row];
    next[column] = value;
    made[place] = next;
    mine.add(place);
  };
  const where = (name: string): number => {
    const found = columns.indexOf(name);
    if (found < 0) throw new Error(`a change of a column that is not shown: ${name}`);
    return found;
  };
  for (const [name, [unit, low, base, text, scale]] of Object.entries(part.add ?? {})) {
    const column = where(name);
    const room = perCharacter(base);
    for (let place = 0; place < made.length; place++) {
      let digit = 0;
      if (base > 1) {
        const packed = DIGITS.indexOf(text.charAt(Math.floor(place / room)) || '"');
        if (packed < 0) throw new Error(`a change of ${name} that ends too early`);
        digit = Math.floor(packed / base ** (place % room)) % base;
      }
      const more = unit * (low + digit);
      const old = made[place]?.[column];
      if (more && typeof old === 'number') set(place, column, scale ? (Math.round(old * scale) + more) / scale : old + more);
    }
  }
  const digit = (text: string, at: number): number => DIGITS.indexOf(text.charAt(at) || '"');
  for (const [name, [steps, values, picked]] of Object.entries(part.cells ?? {})) {
    const column = where(name);
    const count = steps.length || rows.length;
    for (let at = 0, place = 0; at < count; at++) {
      place = !steps.length ? at : place + (typeof steps === 'string' ? digit(steps, at) : (steps[at] as number));
      const which = picked ? digit(picked, at) : values.length > 1 ? at : 0;
      if (which < 0 || which >= values.length) throw new Error(`a change of ${name} that ends too early`);
      set(place, column, values[which] as Cell);
    }
  }
  return made;
}
