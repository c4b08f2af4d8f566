// The left panel: sessions, and of the one in focus its tasks, pilots and views, with the buttons that act on them.
// Elements stay where they are while numbers change, so that nothing moves away under a pointer. Read next: pilots.ts.

import { Widget } from '@lumino/widgets';
import { Chips, Meter } from '../core/chips';
import { allow, button, fill, h, write, type Trans } from '../core/dom';
import type { Shown, Subscription } from '../core/feed';
import { PilotForm } from '../core/form';
import { notice, since, trouble, watchSeen } from '../core/parts';
import { ensureStyle, pageTheme, watchTheme } from '../core/style';
import { records } from '../core/picture';
import { FINAL, number, open } from '../core/texts';
import { TITLES } from '../core/view';
import type { Model, SessionLine } from './model';
import { Pilots, away } from './pilots';
import { Questions } from './questions';

/** What the panel asks others to do. */
export interface Acts {
  openSession(): void;
  closeSession(name: string): void;
  detach(name: string): void;
  show(view: string, session: string, window: Record<string, unknown>): void;
}

interface Item {
  element: HTMLElement;
  show(line: SessionLine): void;
}

export class SessionsPanel extends Widget {
  private readonly told = h('div', {});
  private readonly list = h('ul', { class: 'jrm-list' });
  private readonly past = h('ul', { class: 'jrm-list' });
  private readonly pastBox: HTMLDetailsElement;
  private readonly none = h('div', { class: 'jrm-none' });
  private readonly detail = h('div', {});
  private readonly formBox = h('section', {});
  private readonly items = new Map<string, Item>();
  private readonly ends: (() => void)[] = [];
  private part: SessionPart | null = null;
  private form: PilotForm | null = null;
  private noticed = '';

  constructor(
    private readonly model: Model,
    private readonly trans: Trans,
    private readonly acts: Acts
  ) {
    super();
    ensureStyle();
    this.addClass('jrm');
    this.addClass('jrm-panel');
    const { node } = this;
    node.setAttribute('role', 'region');
    node.setAttribute('aria-label', trans.__('Sessions, pilots and tasks'));
    this.pastBox = h('details', {}, h('summary', {}, trans.__('Closed sessions')), this.past);
    this.formBox.hidden = true;
    const make = button(trans.__('+ Open'), () => acts.openSession());
    const allowed = (): void =>
      allow(make, model.server.why('write', 'sessions', trans), trans.__('Open a session, or make a new one'));
    allowed();
    void model.server.learn().then(() => {
      allowed();
      this.part?.again();
    });
    node.append(
      h('div', { class: 'jrm-panel-top' }, h('h2', {}, trans.__('Sessions')), make),
      this.told,
      h('section', {}, this.list, this.none, this.pastBox),
      this.formBox,
      this.detail
    );
    model.changed.connect(this.draw, this);
    const dark = (): void => void this.toggleClass('jrm-dark', pageTheme() === 'dark');
    dark();
    this.ends.push(
      watchTheme(dark),
      watchSeen(node, seen => {
        // Somebody wants to see something: from now on.
        if (seen) model.follow();
        this.part?.see(seen);
      })
    );
    this.draw();
  }

  override dispose(): void {
    if (this.isDisposed) return;
    for (const end of this.ends) end();
    this.model.changed.disconnect(this.draw, this);
    this.part?.dispose();
    super.dispose();
  }

  /** Ask for a pilot of a session, here. */
  ask(session: string): void {
    this.model.current = session;
    this.form = new PilotForm(this.model.server, session, this.trans, () => this.unask());
    fill(this.formBox, h('h3', {}, this.trans.__('Start a pilot')), this.form.element);
    this.formBox.hidden = false;
    this.form.focus();
    this.formBox.scrollIntoView({ block: 'nearest' });
  }

  private unask(): void {
    this.form = null;
    fill(this.formBox);
    this.formBox.hidden = true;
    this.part?.focus();
  }

  private draw(): void {
    const { model, trans } = this;
    this.notice();
    write(
      this.none,
      model.known
        ? trans.__('No open session. Open one here, or in a notebook: s = jupyter_rm.open("study")')
        : trans.__('Looking for sessions')
    );
    this.none.hidden = model.open.length > 0 || (model.trouble !== null && !model.known);
    this.lines(this.list, model.open);
    const past = model.lines.filter(each => each.state === 'closed');
    this.lines(this.past, past);
    this.pastBox.hidden = past.length === 0;
    write(this.pastBox.firstElementChild as Element, trans._n('%1 closed session', '%1 closed sessions', past.length, past.length));
    const current = model.current;
    if ((this.part?.name ?? '') !== current) {
      this.part?.dispose();
      this.part = current ? new SessionPart(current, model, trans, this.acts, name => this.ask(name)) : null;
      fill(this.detail, this.part?.element);
    }
  }

  private lines(list: HTMLElement, lines: SessionLine[]): void {
    const keys = lines.map(line => `${line.state} ${line.name}`);
    const before = [...list.children].map(each => (each as HTMLElement).dataset['key'] ?? '');
    for (const line of lines) {
      const key = `${line.state} ${line.name}`;
      if (!this.items.has(key)) this.items.set(key, this.item(line, key));
      this.items.get(key)?.show(line);
    }
    for (const key of before) if (!keys.includes(key)) this.items.delete(key);
    if (keys.join('\n') !== before.join('\n')) fill(list, ...keys.map(key => this.items.get(key)?.element));
  }

  private item(line: SessionLine, key: string): Item {
    const { trans, model } = this;
    const told = h('span', { class: 'jrm-faint' });
    const meter = new Meter();
    const made = h(
      'button',
      {
        ...{ type: 'button', class: 'jrm-session' },
        onclick: () => (model.current = line.name),
        // What its menu does, it does to this session.
        oncontextmenu: () => (model.current = line.name)
      },
      h('div', { class: 'jrm-line' }, h('b', {}, line.name), told, since(line.opened_at, model.feed.ahead)),
      meter.element
    );
    made.dataset['session'] = line.name;
    const element = h('li', {}, made);
    element.dataset['key'] = key;
    return {
      element,
      show: now => {
        const tasks = Object.values(now.tasks).reduce((sum, count) => sum + count, 0);
        const alive = now.pilots.filter(each => ['STARTING', 'ACTIVE', 'DRAINING'].includes(each[2])).length;
        const parts = [tasks ? trans._n('%1 task', '%1 tasks', tasks, number(tasks)) : trans.__('no tasks')];
        if (open(now.tasks)) parts[0] = trans.__('%1 of %2 open', number(open(now.tasks)), number(tasks));
        if (alive) parts.push(trans._n('%1 pilot', '%1 pilots', alive, alive));
        write(told, parts.join(', '));
        meter.show(now.tasks);
        made.setAttribute('aria-current', String(now.name === model.current));
      }
    };
  }

  private notice(): void {
    const { model, trans } = this;
    const key = model.trouble ? `${model.trouble.code} ${model.trouble.message}` : '';
    if (key === this.noticed) return;
    this.noticed = key;
    if (!model.trouble) return fill(this.told);
    const again = async (): Promise<void> => {
      try {
        await model.server.ask('broker', 'POST');
      } catch {
        // The feed tells it better, in a moment.
      }
      model.feed.again();
      model.follow();
    };
    fill(this.told, notice(model.trouble, trans, () => void again()));
  }
}

/** The session in focus. */
class SessionPart {
  readonly element: HTMLElement;
  private readonly chips: Chips;
  private readonly causes = h('div', { class: 'jrm-reason' });
  private readonly told = h('div', {});
  private readonly pilots: Pilots;
  private readonly questions: Questions;
  private readonly start: HTMLButtonElement;
  private readonly leave: HTMLButtonElement;
  private readonly close: HTMLButtonElement;
  private readonly retry: HTMLButtonElement;
  private readonly subscription: Subscription;
  private noticed = '';

  constructor(
    readonly name: string,
    private readonly model: Model,
    private readonly trans: Trans,
    acts: Acts,
    ask: (name: string) => void
  ) {
    this.chips = new Chips(
      trans.__('Tasks by state; each opens the table'),
      state => acts.show('tasks', name, { state }),
      false
    );
    this.start = button(trans.__('Start pilot'), () => ask(name), { class: 'jrm-primary' });
    this.close = button(trans.__('Close session'), () => acts.closeSession(name));
    this.leave = button(trans.__('Detach'), () => acts.detach(name));
    this.retry = button(trans.__('Retry failed'), () => void this.retryFailed());
    this.questions = new Questions(name, model, trans);
    this.pilots = new Pilots(name, model, trans, (view, window) => acts.show(view, name, window));
    const views = Object.entries(TITLES).map(([view, title]) =>
      button(title(trans), () => acts.show(view, name, {}), { title: trans.__('Open this view in a tab') })
    );
    this.element = h(
      'div',
      {},
      this.questions.element,
      h(
        'section',
        { 'aria-label': trans.__('Session %1', name) },
        h('h3', {}, trans.__('Session %1', name)),
        this.told,
        this.chips.element,
        this.causes,
        h('div', { class: 'jrm-actions', role: 'group', 'aria-label': trans.__('Views') }, ...views),
        h(
          'div',
          { class: 'jrm-actions' },
          this.retry,
          this.leave,
          this.close
        )
      ),
      h(
        'section',
        { 'aria-label': trans.__('Pilots') },
        h('h3', {}, trans.__('Pilots')),
        this.pilots.element,
        h('div', { class: 'jrm-actions' }, this.start)
      )
    );
    this.subscription = model.feed.subscribe('summary', name, {}, shown => this.show(shown));
  }

  see(seen: boolean): void {
    this.subscription.see(seen);
  }

  focus(): void {
    this.start.focus();
  }

  /** Something but the picture has changed: what this person may do. */
  again(): void {
    this.show(this.subscription.shown);
  }

  dispose(): void {
    this.subscription.dispose();
    this.questions.dispose();
  }

  private show(shown: Shown): void {
    const { trans } = this;
    const key = shown.trouble && shown.trouble !== this.model.trouble ? shown.trouble.message : '';
    if (key !== this.noticed) {
      this.noticed = key;
      fill(this.told, key !== '' && shown.trouble && notice(shown.trouble, trans));
    }
    if (!shown.known) return;
    const { values } = shown.picture;
    const counts: Record<string, number> = values['counts'] ?? {};
    this.chips.show(counts);
    const causes = Object.entries((values['failures'] ?? {}) as Record<string, number>);
    const words: Record<string, string> = values['causes'] ?? {};
    write(this.causes, causes.map(([cause, count]) => `${number(count)} × ${words[cause] || cause}`).join('; '));
    const over = values['state'] === 'closed' ? trans.__('The session is closed') : '';
    const mine = (action: 'write' | 'execute', resource: 'sessions' | 'pilots' | 'tasks'): string =>
      over || this.model.server.why(action, resource, trans);
    allow(this.start, mine('write', 'pilots'), trans.__('Ask a site for a pilot: a placeholder job that tasks run in'));
    allow(
      this.leave,
      this.model.server.why('write', 'sessions', trans),
      trans.__('Stop following it in this page; everything in it goes on')
    );
    allow(this.close, mine('write', 'sessions'), trans.__('Cancel what is open and end its pilots'));
    const retry = mine('execute', 'tasks') || (counts['FAILED'] ? '' : trans.__('No task has failed'));
    allow(this.retry, retry, trans.__('Submit what failed again'));
    this.pilots.show(shown, over);
    // A login may ask again whenever the line to its site was cut.
    const asks = (row: Record<string, any>): boolean => !FINAL.has(row['state']) && away(row);
    this.questions.want(!over && records(shown.picture, 'pilots').some(asks));
  }

  private async retryFailed(): Promise<void> {
    try {
      await this.model.server.ask(this.model.path(this.name, '/tasks/retry'), 'POST', { filter: { state: 'FAILED' } });
      fill(this.told);
    } catch (error) {
      fill(this.told, notice(trouble(error), this.trans, () => fill(this.told), this.trans.__('Close')));
    }
  }
}
