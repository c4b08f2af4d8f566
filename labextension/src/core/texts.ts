// How states, numbers and times are told. Colours and letters are those of jupyter_rm/views/palette.py (a test compares
// them); every state has a letter and a word, so that none is told by colour alone.

export interface Mark {
  letter: string;
  text: string;
  light: string;
  dark: string;
}

const mark = (letter: string, text: string, light: string, dark: string): Mark => ({ letter, text, light, dark });

export const MARKS: Record<string, Mark> = {
  NEW: mark('N', 'not sent yet', '#bdbdbd', '#5b616a'),
  SUBMITTED: mark('S', 'recorded, waits for what it comes after', '#c9c9c9', '#545a63'),
  WAITING: mark('W', 'waits for room', '#c3c8ce', '#59616c'),
  STAGING_IN: mark('I', 'input files are put in place', '#b7a5dd', '#8f7cc0'),
  SCHEDULED: mark('B', 'bound to a pilot', '#8cc5ea', '#2f6b96'),
  RUNNING: mark('R', 'runs', '#1f78b4', '#4aa3df'),
  STAGING_OUT: mark('O', 'output files are put in place', '#9a83cf', '#a896d8'),
  DONE: mark('D', 'ended with success', '#4bab85', '#3f9470'),
  FAILED: mark('F', 'failed', '#d55e00', '#ee7a1f'),
  CANCELED: mark('C', 'canceled', '#b0729e', '#b57fa6'),
  QUEUED: mark('Q', 'waits in the batch queue', '#e2b33c', '#a27d21'),
  STARTING: mark('A', 'its agent is being started', '#8cc5ea', '#2f6b96'),
  ACTIVE: mark('T', 'takes tasks', '#1f78b4', '#4aa3df'),
  DRAINING: mark('E', 'takes no new tasks', '#9a83cf', '#a896d8')
};

/** Hues of things that have no order, such as users; those of jupyter_rm/views/palette.py. */
export const HUES = [
  ...['#1f78b4', '#e69f00', '#4bab85', '#cc79a7', '#56b4e9', '#b2632f'],
  ...['#7f6fc4', '#8a9a2b', '#d9677a', '#3d9ea3', '#9c7a4d', '#7a8794']
];

export const TASK_STATES = [
  ...['NEW', 'SUBMITTED', 'WAITING', 'STAGING_IN', 'SCHEDULED'],
  ...['RUNNING', 'STAGING_OUT', 'DONE', 'FAILED', 'CANCELED']
];
export const FINAL = new Set(['DONE', 'FAILED', 'CANCELED']);

/** Return black or white, whichever reads better on a colour `#rrggbb`. */
export function ink(colour: string): string {
  const [r, g, b] = [1, 3, 5].map(at => {
    const part = parseInt(colour.slice(at, at + 2), 16) / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  }) as [number, number, number];
  const light = 0.2126 * r + 0.7152 * g + 0.0722 * b;
  return 1.05 / (light + 0.05) > (light + 0.05) / 0.05 ? '#ffffff' : '#000000';
}

const written = new Intl.NumberFormat(); // toLocaleString makes one for every number

export function number(value: number): string {
  return written.format(value);
}

/** Return a span of time in words short enough for a table: `400 ms`, `12 s`, `3 min 5 s`, `2 h 10 min`, `4 d 2 h`. */
export function span(seconds: number): string {
  const s = Math.max(0, seconds);
  if (s < 0.95) return `${Math.round(s * 1000)} ms`;
  if (s < 9.95) return `${s.toFixed(1)} s`;
  if (s < 60) return `${Math.round(s)} s`;
  const two = (big: number, bigUnit: string, small: number, unit: string): string =>
    small ? `${big} ${bigUnit} ${small} ${unit}` : `${big} ${bigUnit}`;
  if (s < 3600) return two(Math.floor(s / 60), 'min', Math.floor(s % 60), 's');
  if (s < 86400) return two(Math.floor(s / 3600), 'h', Math.floor((s % 3600) / 60), 'min');
  return two(Math.floor(s / 86400), 'd', Math.floor((s % 86400) / 3600), 'h');
}

/** Return an age that needs no tenths: `just now`, `12 s`, `3 min`, `2 h`. */
export function age(seconds: number): string {
  const s = Math.max(0, seconds);
  if (s < 1) return '0 s';
  if (s < 60) return `${Math.floor(s)} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86400) return `${Math.floor(s / 3600)} h`;
  return `${Math.floor(s / 86400)} d`;
}

/** Return a moment of today as a time of day, another one with its date. */
export function moment(at: number | null): string {
  if (!at) return '';
  const date = new Date(at * 1000);
  const time = date.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' });
  return date.toDateString() === new Date().toDateString() ? time : `${date.toLocaleDateString()} ${time}`;
}

export function bytes(count: number): string {
  if (count < 1000) return `${count} B`;
  const units = ['kB', 'MB', 'GB', 'TB'];
  let value = count;
  let unit = 'B';
  for (const next of units) {
    if (value < 1000) break;
    value /= 1000;
    unit = next;
  }
  return `${value.toFixed(value < 10 ? 1 : 0)} ${unit}`;
}

/** Return tasks that have not ended, of counts per state. */
export function open(counts: Record<string, number>): number {
  return Object.entries(counts).reduce((sum, [state, count]) => sum + (FINAL.has(state) ? 0 : count), 0);
}
