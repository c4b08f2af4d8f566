// A live view in an element: head line, toolbar, figure or table, and what to do when something is wrong.
// Used unchanged in JupyterLab's main area, in cells, in Notebook and by anywidgets. Read next: tasks.ts, drawn.ts, logs.ts.

import { ENGLISH, button, fill, h, write, type Trans } from './dom';
import { Drawn } from './drawn';
import type { Dial, Feed, Shown, Subscription } from './feed';
import { Logs } from './logs';
import { feedOf } from './page';
import { notice, watchSeen } from './parts';
import { Server, ServerError, pagePlace } from './server';
import { ensureStyle, pageTheme, watchTheme, type Theme } from './style';
import { Tasks } from './tasks';
import { age } from './texts';

export type Window = Record<string, unknown>;

export interface ViewOptions {
  view: string;
  session: string;
  window?: Window;
  /** Where the server is; without all of these: the server whose page this is. */
  server?: Server;
  baseUrl?: string;
  token?: string;
  /** Instead of the websocket: how to speak the feed, and how to ask the interface. */
  dial?: Dial;
  theme?: Theme | 'auto';
  trans?: Trans;
  /** `full`: takes all the height there is; `cell`: has a height of its own. */
  place?: 'full' | 'cell';
  /** Show another view; without it nothing offers that. */
  open?: (view: string, session: string, window: Window) => void;
  /** The person has changed what is shown. */
  moved?: (window: Window) => void;
}

export interface Mounted {
  readonly element: HTMLElement;
  /** Show another part. */
  update(window: Window): void;
  /** Take the keyboard's focus. */
  focus(): void;
  dispose(): void;
}

/** What the body of a view gets to work with. */
export interface Stage {
  readonly server: Server;
  readonly feed: Feed;
  readonly view: string;
  readonly session: string;
  readonly trans: Trans;
  readonly bar: HTMLElement;
  readonly body: HTMLElement;
  readonly theme: () => Theme;
  readonly window: () => Window;
  readonly open: ViewOptions['open'];
  /** Change fields of the window; null takes one out. */
  move(fields: Record<string, unknown>): void;
  say(text: string): void;
}

/** The body of a view. */
export interface Body {
  show(shown: Shown): void;
  themed(): void;
  dispose(): void;
}

export const TITLES: Record<string, (trans: Trans) => string> = {
  tasks: trans => trans.__('Tasks'),
  nodes: trans => trans.__('Nodes'),
  queue: trans => trans.__('Queue'),
  timeline: trans => trans.__('Timeline'),
  usage: trans => trans.__('Usage'),
  logs: trans => trans.__('Logs')
};

/** Show a live view in an element. */
export function mountView(element: HTMLElement, options: ViewOptions): Mounted {
  if (options.view !== 'logs') return new View(element, options);
  const server = options.server ?? new Server(placeOf(options));
  const title = (TITLES['logs'] as (trans: Trans) => string)(options.trans ?? ENGLISH);
  return new Logs(element, options, server, feedOf(server, options.dial), title);
}

class View implements Mounted {
  readonly element: HTMLElement;
  private readonly trans: Trans;
  private readonly live = h('span', { class: 'jrm-live jrm-old' });
  private readonly told = h('div', { class: 'jrm-told' });
  private readonly spoken = h('div', { class: 'jrm-hidden', role: 'status', 'aria-live': 'polite' });
  private readonly body: Body;
  private readonly subscription: Subscription;
  private ready = false;
  private readonly ends: (() => void)[] = [];
  private readonly feed: Feed;
  private window: Window;
  private theme: Theme;
  private noticed = '';
  private shown: Shown | null = null;

  constructor(host: HTMLElement, private readonly options: ViewOptions) {
    ensureStyle();
    const trans = (this.trans = options.trans ?? ENGLISH);
    this.window = { ...options.window };
    this.theme = !options.theme || options.theme === 'auto' ? pageTheme() : options.theme;
    const server = options.server ?? new Server(placeOf(options));
    this.feed = feedOf(server, options.dial);
    const title = (TITLES[options.view] ?? (() => options.view))(trans);
    const bar = h('div', { class: 'jrm-bar', role: 'toolbar', 'aria-label': trans.__('%1: what is shown', title) });
    const body = h('div', { class: 'jrm-body' });
    this.element = h(
      'section',
      {
        class: `jrm jrm-view jrm-${options.place ?? 'cell'} jrm-v-${options.view}`,
        'aria-label': trans.__('%1 of session %2', title, options.session)
      },
      h(
        'div',
        { class: 'jrm-head' },
        h('h2', {}, `${title} · ${options.session}`),
        this.live,
        options.place !== 'full' &&
          options.open &&
          button(trans.__('Open beside'), () => options.open?.(options.view, options.session, this.window), {
            class: 'jrm-plain',
            title: trans.__('Show this view in a tab of its own')
          })
      ),
      this.told,
      bar,
      body,
      this.spoken
    );
    this.element.classList.toggle('jrm-dark', this.theme === 'dark');
    host.append(this.element);
    const stage: Stage = {
      ...{ server, feed: this.feed, view: options.view, session: options.session, trans, bar, body },
      ...{ theme: () => this.theme, window: () => this.window, open: options.open },
      move: fields => this.move(fields),
      say: text => write(this.spoken, text)
    };
    this.body = options.view === 'tasks' ? new Tasks(stage) : new Drawn(stage);
    this.subscription = this.feed.subscribe(options.view, options.session, this.window, shown => this.show(shown));
    this.ready = true;
    this.ends.push(watchSeen(this.element, seen => this.subscription.see(seen)));
    if (!options.theme || options.theme === 'auto') this.ends.push(watchTheme(theme => this.turn(theme)));
    const timer = setInterval(() => this.age(), 1000);
    this.ends.push(() => clearInterval(timer));
    this.show(this.subscription.shown);
  }

  update(window: Window): void {
    this.window = { ...window };
    // A body may choose its window before anything is asked for.
    if (this.ready) this.subscription.move(this.window);
  }

  focus(): void {
    this.element.querySelector<HTMLElement>('button, [tabindex="0"]')?.focus();
  }

  dispose(): void {
    for (const end of this.ends) end();
    this.subscription.dispose();
    this.body.dispose();
    this.element.remove();
  }

  private move(fields: Record<string, unknown>): void {
    const next: Window = { ...this.window, ...fields };
    for (const name of Object.keys(next)) if (next[name] === null || next[name] === undefined) delete next[name];
    if (JSON.stringify(next) === JSON.stringify(this.window)) return;
    this.update(next);
    this.options.moved?.(next);
  }

  private turn(theme: Theme): void {
    this.theme = theme;
    this.element.classList.toggle('jrm-dark', theme === 'dark');
    this.body.themed();
  }

  private show(shown: Shown): void {
    this.shown = shown;
    this.notice(shown);
    this.age();
    if (shown.known) this.body.show(shown);
  }

  private notice(shown: Shown): void {
    const { trans } = this;
    let trouble = shown.trouble;
    if (!trouble && shown.known && shown.picture.values['connected'] === false) {
      trouble = {
        code: '',
        message: trans.__('the broker cannot be reached just now; this is the last picture'),
        hint: trans.__('nothing: it is looked for again and again, and your work goes on'),
        retry: true
      };
    }
    const key = trouble ? `${trouble.code} ${trouble.message}` : '';
    if (key === this.noticed) return;
    this.noticed = key;
    if (!trouble) return fill(this.told);
    const again = (): void => {
      this.feed.again();
      this.subscription.move(this.window);
    };
    fill(this.told, notice(trouble, trans, trouble.retry ? again : undefined));
  }

  /** Say how old the picture is, when it is not that of now. */
  private age(): void {
    const { shown, trans } = this;
    if (!shown || document.hidden) return;
    const closed = shown.picture.values['state'] === 'closed';
    this.live.classList.toggle('jrm-old', !shown.live || closed);
    const past = age(Date.now() / 1000 + this.feed.ahead - shown.at);
    if (!shown.known) write(this.live, shown.trouble ? trans.__('not connected') : trans.__('loading'));
    else if (closed) write(this.live, trans.__('session closed'));
    else if (shown.live) write(this.live, trans.__('live'));
    else if (shown.trouble && !shown.trouble.retry) write(this.live, trans.__('as of %1 ago', past)); // by a mistake, not a line
    else write(this.live, trans.__('as of %1 ago, connecting', past));
  }
}

function placeOf(options: ViewOptions): { baseUrl: string; token?: string; appendToken?: boolean } {
  if (options.baseUrl !== undefined) {
    const token = options.token || undefined;
    const away = new URL(options.baseUrl, location.href).host !== location.host;
    return token ? { baseUrl: options.baseUrl, token, appendToken: away } : { baseUrl: options.baseUrl };
  }
  const found = pagePlace();
  if (found) return found;
  throw new ServerError('JRM-W07', 'this page belongs to no Jupyter server', 'give baseUrl, or a dial', false, 0);
}
