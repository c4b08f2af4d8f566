// The log lines of broker and agents: of which component, of which levels, with which text in them. They are read from
// where this view stands, while it is followed and somebody can see it; what cannot be seen asks for nothing.
// Every line is text. Read next: view.ts, jupyter_rm/server/logs.py.

import { ENGLISH, allow, button, fill, h, write, type Trans } from './dom';
import type { Feed, Shown, Subscription } from './feed';
import { later, notice, trouble, watchSeen } from './parts';
import { records, type Trouble } from './picture';
import type { Server } from './server';
import { ensureStyle, pageTheme, watchTheme } from './style';
import { FINAL, moment, number } from './texts';
import type { Mounted, ViewOptions, Window } from './view';

const PAUSE_MS = 1000;
const KEPT = 20_000; // lines that are searched
const SHOWN = 1000; // of them on the page
const PART = 2000; // lines of one answer
const MOST_PILOTS = 8; // that are read at once
const BROKER = 'broker';
const LEVELS: Record<string, number> = { DEBUG: 10, INFO: 20, WARNING: 30, ERROR: 40 };

interface Line {
  at: number;
  component: string;
  level: string;
  name: string;
  text: string;
}

/** Where it stands in what a component logs. */
interface Place {
  life: number;
  after: number;
  level: string;
}

const rank = (level: string): number => LEVELS[level] ?? (Number(level) || 0);

export class Logs implements Mounted {
  readonly element: HTMLElement;
  private readonly trans: Trans;
  private readonly live = h('span', { class: 'jrm-live jrm-old' });
  private readonly told = h('div', { class: 'jrm-told' });
  private readonly box: HTMLElement;
  private readonly note = h('div', { class: 'jrm-log-note jrm-faint' });
  private readonly component: HTMLSelectElement;
  private readonly level: HTMLSelectElement;
  private readonly search: HTMLInputElement;
  private readonly follow: HTMLButtonElement;
  private readonly more: HTMLButtonElement;
  private readonly end: HTMLButtonElement;
  private readonly subscription: Subscription;
  private readonly ends: (() => void)[] = [];
  private readonly places = new Map<string, Place>();
  private lines: Line[] = [];
  private matched = 0;
  private dropped = 0;
  private pilots: string[] = [];
  private silent: string[] = [];
  private window: Window;
  private state = '';
  private trouble: Trouble | null = null;
  private noticed = '';
  private seen = false;
  private reading = false;
  private over = false;
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    host: HTMLElement,
    private readonly options: ViewOptions,
    private readonly server: Server,
    feed: Feed,
    title: string
  ) {
    ensureStyle();
    const trans = (this.trans = options.trans ?? ENGLISH);
    this.window = { ...options.window };
    const choice = (name: string, label: string, choices: [string, string][]): HTMLSelectElement => {
      const made = h('select', { 'aria-label': label, onchange: () => this.move({ [name]: made.value || null }) });
      fill(made, ...choices.map(([value, text]) => h('option', { value }, text)));
      return made;
    };
    this.component = choice('component', trans.__('Of which component'), []);
    this.level = choice('level', trans.__('Show which levels'), [
      ['', trans.__('all')],
      ['INFO', trans.__('info and worse')],
      ['WARNING', trans.__('warnings and errors')],
      ['ERROR', trans.__('errors')]
    ]);
    this.search = h('input', { type: 'search', size: 18, placeholder: trans.__('a text in the line') });
    this.search.addEventListener('input', later(() => this.move({ search: this.search.value.trim() || null }), 150));
    this.follow = button(trans.__('Follow'), () => this.move({ follow: this.following ? false : null }), {
      title: trans.__('Read what is logged, every second, while this can be seen'),
      pressed: true
    });
    this.more = button(trans.__('Log more'), () => void this.tell(), {
      title: trans.__('Let it log details (DEBUG) from now on, until this is pressed again'),
      pressed: false
    });
    this.end = button(trans.__('To the end'), () => this.bottom(30), { title: trans.__('Show the newest lines') });
    this.box = h('div', {
      ...{ class: 'jrm-log', role: 'log', 'aria-live': 'off', tabindex: 0, 'aria-label': trans.__('Log lines') },
      onscroll: () => this.edge()
    });
    const field = (label: string, control: HTMLElement): HTMLElement => h('label', {}, label, control);
    this.element = h(
      'section',
      {
        class: `jrm jrm-view jrm-${options.place ?? 'cell'} jrm-v-logs`,
        'aria-label': trans.__('%1 of session %2', title, options.session)
      },
      h('div', { class: 'jrm-head' }, h('h2', {}, `${title} · ${options.session}`), this.live),
      this.told,
      h(
        'div',
        { class: 'jrm-bar', role: 'toolbar', 'aria-label': trans.__('%1: what is shown', title) },
        ...[field(trans.__('Of'), this.component), field(trans.__('Show'), this.level), field(trans.__('With'), this.search)],
        ...[this.follow, this.more, h('span', { class: 'jrm-grow' }), this.end]
      ),
      h('div', { class: 'jrm-body' }, this.box, this.note)
    );
    const dark = (): void => {
      const theme = !options.theme || options.theme === 'auto' ? pageTheme() : options.theme;
      this.element.classList.toggle('jrm-dark', theme === 'dark');
    };
    dark();
    host.append(this.element);
    this.offer();
    this.apply();
    this.subscription = feed.subscribe('summary', options.session, {}, shown => this.show(shown));
    const look = (): void => void this.read();
    document.addEventListener('visibilitychange', look);
    this.ends.push(
      watchTheme(dark),
      () => document.removeEventListener('visibilitychange', look),
      watchSeen(this.element, seen => {
        this.seen = seen;
        this.subscription.see(seen);
        look();
      })
    );
  }

  update(window: Window): void {
    this.window = { ...window };
    this.apply();
  }

  focus(): void {
    this.search.focus();
  }

  dispose(): void {
    this.over = true;
    clearTimeout(this.timer);
    for (const end of this.ends) end();
    this.subscription.dispose();
    this.element.remove();
  }

  private get following(): boolean {
    return this.window['follow'] !== false;
  }

  /** The component that is shown; empty: all. */
  private get chosen(): string {
    return String(this.window['component'] ?? '');
  }

  private get sources(): string[] {
    return this.chosen ? [this.chosen] : [BROKER, ...this.pilots.slice(0, MOST_PILOTS)];
  }

  private move(fields: Record<string, unknown>): void {
    const next: Window = { ...this.window, ...fields };
    for (const name of Object.keys(next)) if (next[name] === null) delete next[name];
    this.update(next);
    this.options.moved?.(next);
  }

  private apply(): void {
    this.offer();
    this.level.value = String(this.window['level'] ?? '');
    const text = String(this.window['search'] ?? '');
    if (document.activeElement !== this.search) this.search.value = text;
    this.follow.setAttribute('aria-pressed', String(this.following));
    this.draw();
    this.tellState();
    void this.read();
  }

  /** What is heard of the session: whose lines there are. */
  private show(shown: Shown): void {
    this.trouble = shown.trouble;
    const before = `${this.state} ${this.pilots.join()}`;
    if (shown.known) {
      this.state = String(shown.picture.values['state'] ?? '');
      const there = records(shown.picture, 'pilots').filter(
        row => ['ACTIVE', 'DRAINING'].includes(row['state']) && !row['unreachable'] && !FINAL.has(row['state'])
      );
      this.pilots = there.map(row => String(row['uid']));
      this.offer();
    }
    this.notice();
    this.tellState();
    // Tasks come and go much more often than those who log.
    if (before !== `${this.state} ${this.pilots.join()}`) void this.read();
  }

  private offer(): void {
    const { trans, chosen } = this;
    const names = [...new Set(['', BROKER, ...this.pilots, chosen])];
    const before = [...this.component.options].map(each => each.value);
    if (before.join() !== names.join()) {
      const text = (name: string): string => name || trans.__('the broker and all pilots');
      fill(this.component, ...names.map(name => h('option', { value: name }, text(name))));
    }
    this.component.value = chosen;
  }

  // ------------------------------------------------------------ reading

  private async read(): Promise<void> {
    if (this.reading || this.over || !this.seen || document.hidden) return;
    clearTimeout(this.timer);
    // What has not been read at all is read once, followed or not.
    if (this.state !== 'open' || !(this.following || this.sources.some(name => !this.places.has(name)))) return;
    this.reading = true;
    const silent: string[] = [];
    try {
      for (const component of this.sources) {
        try {
          await this.take(component);
        } catch (error) {
          if (component === BROKER || this.chosen) throw error;
          silent.push(component); // it has gone meanwhile, or is not quite there
        }
      }
      this.trouble = null;
    } catch (error) {
      this.trouble = trouble(error);
    }
    this.reading = false;
    this.silent = silent;
    if (this.over) return;
    this.notice();
    this.tellState();
    this.say();
    if (this.following) this.timer = setTimeout(() => void this.read(), PAUSE_MS);
  }

  /** Take what a component has logged since; a long log comes in parts, each of which is shown. */
  private async take(component: string): Promise<void> {
    for (;;) {
      const { life = -1, after = 0 } = this.places.get(component) ?? {};
      const from = life >= 0 ? `&life=${life}&after=${after}` : '';
      const path = `sessions/${encodeURIComponent(this.options.session)}/logs`;
      const told = await this.server.ask(`${path}?component=${encodeURIComponent(component)}&max_items=${PART}${from}`);
      const fresh = told.lines as (Line & { no: number })[];
      const last = fresh.at(-1)?.no ?? (told.life === life ? after : 0);
      this.places.set(component, { life: told.life, after: last, level: told.level });
      this.dropped += told.dropped;
      if (this.over) return;
      if (fresh.length) this.add(fresh.map(({ at, level, name, text }) => ({ at, component, level, name, text })));
      if (fresh.length < PART || !this.seen) return;
    }
  }

  private add(fresh: Line[]): void {
    const newest = this.lines.at(-1)?.at ?? 0;
    this.lines.push(...fresh);
    const cut = this.lines.length > KEPT;
    const mixed = (fresh[0]?.at ?? 0) < newest;
    // Of several components, each with a clock of its own: in order of time.
    if (mixed) this.lines.sort((one, other) => one.at - other.at);
    if (cut) this.lines.splice(0, this.lines.length - KEPT);
    if (mixed || cut) return this.draw();
    const told = fresh.filter(line => this.wanted(line));
    this.matched += told.length;
    this.put(told.slice(-SHOWN), false);
  }

  /** Have what is shown log more, or as much as before. */
  private async tell(): Promise<void> {
    const level = this.detailed ? 'INFO' : 'DEBUG';
    const path = `sessions/${encodeURIComponent(this.options.session)}/logs`;
    try {
      for (const component of this.sources.filter(name => !this.silent.includes(name))) {
        const told = await this.server.ask(path, 'POST', { component, level });
        const place = this.places.get(component);
        if (place) place.level = told.level;
      }
      this.trouble = null;
    } catch (error) {
      this.trouble = trouble(error);
    }
    this.notice();
    this.tellState();
  }

  private get detailed(): boolean {
    return this.sources.some(name => this.places.get(name)?.level === 'DEBUG');
  }

  // ------------------------------------------------------------ drawing

  private wanted(line: Line): boolean {
    if (this.chosen && line.component !== this.chosen) return false;
    if (rank(line.level) < rank(String(this.window['level'] ?? ''))) return false;
    const text = String(this.window['search'] ?? '').toLowerCase();
    return !text || `${line.component} ${line.name} ${line.text}`.toLowerCase().includes(text);
  }

  private draw(): void {
    const told = this.lines.filter(line => this.wanted(line));
    this.matched = told.length;
    this.put(told.slice(-SHOWN), true);
  }

  private put(lines: Line[], anew: boolean): void {
    const { box } = this;
    const stays = box.scrollTop + box.clientHeight < box.scrollHeight - 4;
    const made = lines.map(line => this.row(line));
    if (anew) fill(box, ...made);
    else box.append(...made);
    while (box.childElementCount > SHOWN) box.firstElementChild?.remove();
    if (!stays || anew) this.bottom();
    this.edge();
    this.say();
  }

  private row(line: Line): HTMLElement {
    const ms = String(Math.floor((line.at % 1) * 1000)).padStart(3, '0');
    return h(
      'div',
      { class: `jrm-log-line jrm-log-${line.level}` },
      h('time', { datetime: new Date(line.at * 1000).toISOString() }, `${moment(line.at)}.${ms}`),
      h('span', {}, line.component),
      h('span', {}, line.level.toLowerCase()),
      h('span', { title: line.name }, line.text)
    );
  }

  /** Go to the end, and for so many frames more: a scroll by keys that is under way would lead away again. */
  private bottom(frames = 0): void {
    this.box.scrollTop = this.box.scrollHeight;
    this.edge();
    if (frames > 0) requestAnimationFrame(() => this.bottom(frames - 1));
  }

  /** Offer the way back to whoever has scrolled away from the end. */
  private edge(): void {
    const { box } = this;
    this.end.hidden = box.scrollTop + box.clientHeight >= box.scrollHeight - 4;
  }

  private say(): void {
    const { trans, lines, matched } = this;
    const all = matched === lines.length;
    const count = all
      ? trans._n('%1 line', '%1 lines', lines.length, number(lines.length))
      : trans.__('%1 of %2 lines', number(matched), number(lines.length));
    const unread = this.chosen ? 0 : this.pilots.length - MOST_PILOTS;
    const parts = [
      count,
      matched > SHOWN ? trans.__('the last %1 are shown, search for earlier ones', number(SHOWN)) : '',
      this.dropped ? trans.__('%1 older ones were not kept', number(this.dropped)) : '',
      unread > 0 ? trans.__('%1 further pilots are read when one is chosen', number(unread)) : '',
      this.silent.length ? trans.__('not in contact: %1', this.silent.join(', ')) : ''
    ];
    write(this.note, parts.filter(Boolean).join(' · '));
  }

  private tellState(): void {
    const { trans, following, trouble: wrong, state } = this;
    const good = following && !wrong && state === 'open';
    this.live.classList.toggle('jrm-old', !good);
    this.more.setAttribute('aria-pressed', String(this.detailed));
    const why = this.server.why('write', 'admin', trans);
    if (why) allow(this.more, why);
    if (state === 'closed') write(this.live, trans.__('session closed'));
    else if (wrong) write(this.live, trans.__('not connected'));
    else if (!state) write(this.live, trans.__('loading'));
    else write(this.live, following ? trans.__('live') : trans.__('stopped'));
  }

  private notice(): void {
    const { trouble: wrong } = this;
    const key = wrong ? `${wrong.code} ${wrong.message}` : '';
    if (key === this.noticed) return;
    this.noticed = key;
    fill(this.told, wrong && notice(wrong, this.trans, () => void this.read()));
  }
}
