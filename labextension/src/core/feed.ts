// The feed: one websocket per page and server, shared by all views, see docs/server.md.
// It comes back by itself with what it shows, notices frames that got lost, and tells the server what cannot be seen.
// Knows pictures and a line; no view. Read next: view.ts.

import { EMPTY, patch, type Frame, type Picture, type Trouble } from './picture';
import { Server, ServerError } from './server';

const FIRST_S = 0.3;
const LAST_S = 8;
const SILENT_S = 45;
const ANSWER_S = 15;
const FORMAT = 3; // of frames, as jupyter_rm/server/feed.py says

/** What a view of the feed looks like at this moment. */
export interface Shown {
  readonly picture: Picture;
  /** False before the first picture. */
  readonly known: boolean;
  /** Is what is shown the state of now, as far as anybody can tell? */
  readonly live: boolean;
  readonly trouble: Trouble | null;
  /** Of the server's clock, seconds since 1970, when the picture was last known to be true. */
  readonly at: number;
}

/** A line to somebody who speaks the feed: a websocket, or comm messages of a kernel. */
export interface Line {
  send(command: object): void;
  close(): void;
}
export interface LineEnd {
  opened(): void;
  frame(frame: Frame): void;
  /** `why`: null when it was just cut. */
  closed(why: Trouble | null): void;
}
export type Dial = (end: LineEnd) => Line;

/** One view that is shown somewhere on the page. */
export class Subscription {
  readonly id: string;
  picture: Picture = EMPTY;
  known = false;
  trouble: Trouble | null = null;
  at = 0;
  private seq = 0;
  private cursor = '';
  private fresh = false;
  private seen = true;

  constructor(
    private readonly feed: Feed,
    number: number,
    readonly view: string,
    readonly session: string,
    private window: Record<string, unknown>,
    private readonly changed: (shown: Shown) => void
  ) {
    this.id = `${view}-${number}`;
  }

  get shown(): Shown {
    const live = this.fresh && this.feed.up && this.picture.values['connected'] !== false;
    const trouble = this.trouble ?? (this.feed.up ? null : this.feed.trouble);
    return { picture: this.picture, known: this.known, live, trouble, at: this.at };
  }

  get visible(): boolean {
    return this.seen;
  }

  /** Show another part of the view. */
  move(window: Record<string, unknown>): void {
    this.window = window;
    this.feed.send({ op: 'window', id: this.id, window });
  }

  /** Say whether a person can see it: what cannot be seen is not sent. */
  see(seen: boolean): void {
    if (seen === this.seen) return;
    this.seen = seen;
    this.feed.send({ op: 'visible', visible: seen, ids: [this.id] });
  }

  dispose(): void {
    this.feed.drop(this);
  }

  /** Ask for it (again). */
  subscribe(): void {
    const { id, view, session, cursor, window } = this;
    this.fresh = false;
    this.feed.send({ op: 'subscribe', id, view, session, cursor, window });
    if (!this.seen) this.feed.send({ op: 'visible', visible: false, ids: [id] });
  }

  take(frame: Frame): void {
    if (frame.kind === 'lost' || frame.kind === 'error') {
      this.trouble = described(frame);
      this.fresh = false;
      this.tell();
      return;
    }
    if (frame.kind === 'delta' && (!this.fresh || frame.seq !== this.seq + 1)) {
      this.feed.send({ op: 'resync', id: this.id });
      return;
    }
    try {
      this.picture = patch(this.picture, frame);
    } catch (error) {
      console.warn('jupyter_rm: a frame that does not fit', error);
      this.feed.send({ op: 'resync', id: this.id });
      return;
    }
    this.seq = frame.seq ?? 0;
    this.cursor = frame.cursor ?? '';
    this.at = frame.at ?? this.at;
    this.trouble = null;
    this.fresh = this.known = true;
    this.tell();
  }

  tell(): void {
    try {
      this.changed(this.shown);
    } catch (error) {
      // One view that breaks must not take the others along.
      console.error('jupyter_rm: a view broke', error);
    }
  }
}

function described(frame: Frame): Trouble {
  return {
    code: frame.code ?? '',
    message: frame.message ?? 'unknown',
    hint: frame.hint ?? '',
    retry: frame.retry ?? false
  };
}

export class Feed implements LineEnd {
  /** Is the line there? */
  up = false;
  trouble: Trouble | null = null;
  /** Seconds that the server's clock is ahead of this page's. */
  ahead = 0;
  private readonly subscriptions = new Map<string, Subscription>();
  private line: Line | null = null;
  private wait = FIRST_S;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private heard = 0;
  private count = 0;

  constructor(private readonly dial: Dial) {
    // As long as the page is there: a feed belongs to the page and is never thrown away.
    globalThis.document?.addEventListener('visibilitychange', () => this.pageSeen());
    globalThis.addEventListener?.('online', () => this.again());
    setInterval(() => this.listen(), 5000);
  }

  /** Show a view; `changed` is called with every change of it. */
  subscribe(
    view: string,
    session: string,
    window: Record<string, unknown>,
    changed: (shown: Shown) => void
  ): Subscription {
    const made = new Subscription(this, ++this.count, view, session, window, changed);
    this.subscriptions.set(made.id, made);
    if (this.up) made.subscribe();
    else if (!this.line && this.timer === undefined) this.connect();
    return made;
  }

  drop(which: Subscription): void {
    if (this.subscriptions.delete(which.id)) this.send({ op: 'unsubscribe', id: which.id });
  }

  send(command: object): void {
    // What is said while there is no line is said again, as a whole, when there is one.
    if (this.up) this.line?.send(command);
  }

  /** Try now what would be tried later. */
  again(): void {
    if (this.up || this.line) return;
    clearTimeout(this.timer);
    this.wait = FIRST_S;
    this.connect();
  }

  private connect(): void {
    this.timer = undefined;
    if (this.subscriptions.size === 0) return;
    this.line = this.dial(this);
  }

  opened(): void {
    this.up = true;
    this.trouble = null;
    this.wait = FIRST_S;
    this.heard = Date.now();
    for (const each of this.subscriptions.values()) each.subscribe();
    if (globalThis.document?.hidden) this.send({ op: 'visible', visible: false });
  }

  frame(frame: Frame): void {
    this.heard = Date.now();
    if (frame.at) this.ahead = frame.at - Date.now() / 1000;
    if (frame.kind === 'hello') return;
    let one = frame.id ? this.subscriptions.get(frame.id) : undefined;
    if (!one && frame.kind === 'error') {
      // What the server cannot read (an older one, say) it cannot answer by id; it repeats what it was asked.
      one = [...this.subscriptions.values()].find(each => !each.known && frame.message?.includes(`'${each.id}'`));
      if (!one) console.warn('jupyter_rm:', frame.code, frame.message, frame.hint);
    }
    one?.take(frame);
  }

  closed(why: Trouble | null): void {
    this.up = false;
    this.line = null;
    if (why) this.trouble = why;
    for (const each of this.subscriptions.values()) each.tell();
    // Not all pages of a server that was restarted at the same moment.
    const wait = this.wait * (0.75 + Math.random() / 2);
    this.wait = Math.min(LAST_S, this.wait * 2);
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.connect(), wait * 1000);
  }

  private pageSeen(): void {
    const hidden = document.hidden;
    if (!this.up) {
      if (!hidden) this.again();
      return;
    }
    const ids = [...this.subscriptions.values()].filter(each => each.visible).map(each => each.id);
    if (ids.length) this.send({ op: 'visible', visible: !hidden, ids });
  }

  /** A line that was cut without a word (a tunnel, a laptop that slept) looks like one where nothing happens. */
  private listen(): void {
    if (!this.up || globalThis.document?.hidden) return;
    const silent = (Date.now() - this.heard) / 1000;
    const asked = [...this.subscriptions.values()].find(each => each.visible);
    if (!asked || silent < SILENT_S) return;
    if (silent < SILENT_S + ANSWER_S) this.send({ op: 'resync', id: asked.id });
    else this.line?.close();
  }
}

/** A page that stayed open while the server was updated: it would take changes for others than they are. */
const OTHER: Trouble = {
  code: 'JRM-W10',
  message: 'this page is of another version than the server',
  hint: 'reload the page; nothing is lost',
  retry: false
};

/** Return how to reach the feed of a server by a websocket. */
export function socket(server: Server): Dial {
  return end => {
    const made = new WebSocket(server.feedUrl());
    let greeted = false;
    made.onmessage = event => {
      const frame = JSON.parse(event.data) as Frame;
      if (frame.kind === 'hello' && frame.feed !== FORMAT) return part(OTHER);
      if (frame.kind === 'hello' && !greeted) {
        greeted = true;
        end.opened();
      }
      end.frame(frame);
    };
    let over = false;
    const part = (why: Trouble): void => {
      over = true;
      made.close();
      end.closed(why);
    };
    made.onclose = async () => {
      if (over) return;
      over = true;
      end.closed(greeted ? null : await reason(server));
    };
    return {
      send: command => {
        if (made.readyState === WebSocket.OPEN) made.send(JSON.stringify(command));
      },
      close: () => {
        // The other end may be gone: do not wait for its goodbye.
        made.close();
        void made.onclose?.(new CloseEvent('close'));
      }
    };
  };
}

/** Find out why there is no websocket: browsers do not tell. */
async function reason(server: Server): Promise<Trouble> {
  try {
    await server.ask('status');
  } catch (error) {
    if (error instanceof ServerError) return error;
  }
  return {
    code: 'JRM-W05',
    message: 'the Jupyter server answers, but opens no websocket',
    hint: 'a proxy between may forbid websockets; ask who runs it',
    retry: true
  };
}
