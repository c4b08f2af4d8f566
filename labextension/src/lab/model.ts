// What all parts of the plugin share: the list of sessions as the feed tells it, and the session in focus.
// Nothing is asked of a broker before somebody wants to see something: a Lab without sessions starts none.

import { Signal, type ISignal } from '@lumino/signaling';
import type { Feed, Shown, Subscription } from '../core/feed';
import { feedOf } from '../core/page';
import { records, type Trouble } from '../core/picture';
import { ServerError, type Server } from '../core/server';
import { trouble } from '../core/parts';

const LOOK_MS = 10_000;

export interface SessionLine {
  name: string;
  state: 'open' | 'closed';
  opened_at: number;
  tasks: Record<string, number>;
  /** (name, site, state) each. */
  pilots: [string, string, string][];
  clients: number;
}

export class Model {
  readonly feed: Feed;
  lines: SessionLine[] = [];
  /** Has the list been seen once? */
  known = false;
  trouble: Trouble | null = null;
  /** The pilot whose menu was opened last. */
  pointed: { session: string; pilot: string } | null = null;
  private name = '';
  private list: Subscription | null = null;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private readonly signal = new Signal<this, void>(this);

  constructor(readonly server: Server) {
    this.feed = feedOf(server);
  }

  get changed(): ISignal<this, void> {
    return this.signal;
  }

  /** Begin to look for a broker, gently, and follow its list of sessions once there is one. */
  async look(): Promise<void> {
    clearTimeout(this.timer);
    if (this.list) return;
    if (!document.hidden) {
      try {
        const status = await this.server.ask('status');
        // The feed knows more than an answer that was asked for before it.
        if (this.list) return;
        this.trouble = null;
        if (status.broker.up) return this.follow();
      } catch (error) {
        if (this.list) return;
        this.trouble = trouble(error);
        // Where the server half is missing it will be so until the server is restarted.
        if (error instanceof ServerError && error.status === 404) return this.signal.emit();
      }
    }
    this.signal.emit();
    this.timer = setTimeout(() => void this.look(), LOOK_MS);
  }

  /** Follow the list of sessions from now on. */
  follow(): void {
    clearTimeout(this.timer);
    this.list ??= this.feed.subscribe('sessions', '', {}, shown => this.take(shown));
  }

  private take(shown: Shown): void {
    this.trouble = shown.trouble;
    if (shown.known) {
      this.known = true;
      this.lines = records(shown.picture, 'sessions') as SessionLine[];
    }
    this.signal.emit();
  }

  get open(): SessionLine[] {
    return this.lines.filter(each => each.state === 'open');
  }

  /** The session in focus: the one chosen, else the newest that is open. */
  get current(): string {
    if (this.name && (!this.known || this.lines.some(each => each.name === this.name))) return this.name;
    return this.open[0]?.name ?? '';
  }

  /** The session that a person has chosen; empty: none. */
  get chosen(): string {
    return this.name;
  }

  set current(name: string) {
    this.name = name;
    this.signal.emit();
  }

  line(name: string): SessionLine | undefined {
    return this.lines.find(each => each.name === name);
  }

  /** Tasks of all open sessions, per state. */
  get counts(): Record<string, number> {
    const sum: Record<string, number> = {};
    for (const line of this.open) {
      for (const [state, count] of Object.entries(line.tasks)) sum[state] = (sum[state] ?? 0) + count;
    }
    return sum;
  }

  path(session: string, rest = ''): string {
    return `sessions/${encodeURIComponent(session)}${rest}`;
  }
}
