// The body of the view of tasks: counts to filter by, the chart over time, the table of any size, one task's details.
// Read next: grid.ts, details.ts.

import { allow, button, h, write } from './dom';
import { Chips } from './chips';
import { Details } from './details';
import { Panel } from './drawn';
import type { Shown } from './feed';
import { Grid, type Column } from './grid';
import { onSelect, select, selected } from './page';
import { later, notice, stateOf, trouble } from './parts';
import { records } from './picture';
import { moment, number, span } from './texts';
import type { Body, Stage } from './view';

const BINS = 150;
const TOLD_MS = 8000;

export class Tasks implements Body {
  private readonly grid: Grid;
  private readonly details: Details;
  private readonly chips: Chips;
  private readonly search: HTMLInputElement;
  private readonly other = h('span', {});
  private readonly matched = h('span', { class: 'jrm-faint' });
  private readonly cancel: HTMLButtonElement;
  private readonly retry: HTMLButtonElement;
  private readonly chart: HTMLButtonElement;
  private readonly none = h('div', { class: 'jrm-none' });
  private readonly said = h('div', {});
  private readonly done = h('div', { class: 'jrm-said' });
  private doneTimer: ReturnType<typeof setTimeout> | undefined;
  private readonly end: () => void;
  private readonly figure = h('div', {});
  private panel: Panel | null = null;
  private keep: HTMLButtonElement | null = null;
  private chosen: string[] = [];
  private shown: Shown | null = null;

  constructor(private readonly stage: Stage) {
    const { trans, bar, body } = stage;
    this.grid = new Grid(
      this.columns(),
      {
        wanted: (offset, limit) => stage.move({ offset, limit }),
        sorted: (sort, order) => this.filter({ sort: sort === 'uid' ? null : sort, order: order === 'asc' ? null : order }),
        chosen: (keys, last) => this.choose(keys, last),
        opened: uid => this.details.show(uid)
      },
      trans,
      trans.__('Tasks of session %1', stage.session)
    );
    this.details = new Details(stage, (what, uids) => this.act(what, { uids }), () => this.close());
    this.search = h('input', {
      ...{ type: 'search', size: 18, 'aria-label': trans.__('Search tasks') },
      placeholder: trans.__('name, command, t.3.17'),
      value: String(stage.window()['search'] ?? ''),
      oninput: later(() => this.filter({ search: this.search.value.trim().slice(0, 200) || null }), 250)
    });
    this.cancel = button(trans.__('Cancel'), () => void this.act('cancel', { uids: this.chosen }));
    this.retry = button(trans.__('Retry'), () => void this.act('retry', this.again()));
    const charted = stage.window()['bins'] !== 0;
    this.chart = button(trans.__('Chart'), () => this.charted(this.panel === null), {
      pressed: charted,
      title: trans.__('Show or hide the chart of tasks over time')
    });
    this.chips = new Chips(trans.__('Show only tasks in these states'), state => this.toggle(state), true);
    bar.append(this.chips.element, h('span', { class: 'jrm-grow' }), this.matched, this.other, this.search);
    bar.append(this.cancel, this.retry, this.chart);
    body.append(
      this.said,
      this.done,
      this.figure,
      h('div', { class: 'jrm-split' }, this.grid.element, this.details.element)
    );
    this.done.hidden = this.none.hidden = true;
    this.grid.element.append(this.none);
    this.charted(charted);
    this.order();
    this.buttons();
    this.end = onSelect(chosen => {
      if (chosen.session !== stage.session || chosen.from === stage) return;
      this.link(chosen.uid);
    });
    this.grid.link(selected(stage.session));
    void stage.server.learn().then(() => this.buttons());
  }

  dispose(): void {
    this.end();
    clearTimeout(this.doneTimer);
    this.grid.dispose();
    this.details.dispose();
    this.panel?.dispose();
  }

  themed(): void {
    void this.panel?.load();
  }

  show(shown: Shown): void {
    const { trans } = this.stage;
    this.shown = shown;
    const { values } = shown.picture;
    const rows = records(shown.picture, 'tasks');
    const matched = Number(values['matched'] ?? rows.length);
    this.grid.show(rows, Number(values['offset'] ?? 0), matched);
    this.counts(values['counts'] ?? {});
    const total = Number(values['total'] ?? 0);
    write(this.matched, matched === total ? trans._n('%1 task', '%1 tasks', total, number(total)) : trans.__('%1 of %2 tasks', number(matched), number(total)));
    this.none.hidden = matched > 0;
    const empty =
      values['state'] === 'closed'
        ? trans.__('No tasks: the session was closed before any was submitted.')
        : trans.__('No tasks yet. Submit some: s.submit(...) in a notebook.');
    write(this.none, total === 0 ? empty : trans.__('No task suits this filter.'));
    this.panel?.push(shown.picture);
    this.details.hint(rows.find(row => row['uid'] === this.details.uid));
    this.buttons();
  }

  private columns(): Column[] {
    const { trans } = this.stage;
    const text = (name: string) => (row: Record<string, any>) => String(row[name] ?? '');
    const lasted = (row: Record<string, any>): string => {
      if (!row['started']) return '';
      const end = row['ended'] ?? (row['state'] === 'RUNNING' ? this.shown?.at : null);
      return end ? span(end - row['started']) : '';
    };
    return [
      { name: 'uid', title: trans.__('Task'), width: 'minmax(70px,.8fr)', sort: 'uid', cell: text('uid') },
      { name: 'state', title: trans.__('State'), width: '112px', sort: 'state', cell: row => stateOf(row['state']) },
      { name: 'name', title: trans.__('Name'), width: 'minmax(60px,1fr)', sort: '', cell: text('name') },
      { name: 'reason', title: trans.__('Reason'), width: 'minmax(120px,2.4fr)', sort: 'cause', cell: text('reason') },
      { name: 'attempt', title: trans.__('Try'), width: '38px', sort: 'attempt', right: true, cell: text('attempt') },
      { name: 'pilot', title: trans.__('Pilot'), width: '46px', sort: 'pilot', cell: text('pilot') },
      { name: 'node', title: trans.__('Node'), width: 'minmax(50px,.8fr)', sort: 'node', cell: text('node') },
      { name: 'started', title: trans.__('Started'), width: '84px', sort: 'started', cell: row => moment(row['started']) },
      { name: 'lasted', title: trans.__('Lasted'), width: '72px', sort: 'duration', right: true, cell: lasted }
    ];
  }

  /** Filter or sort otherwise: from the first row on. */
  private filter(fields: Record<string, unknown>): void {
    this.grid.top();
    this.stage.move({ ...fields, offset: null });
    this.order();
    if (this.shown) this.counts(this.shown.picture.values['counts'] ?? {});
  }

  private order(): void {
    const window = this.stage.window();
    this.grid.order(String(window['sort'] ?? 'uid'), String(window['order'] ?? 'asc'));
    const { trans } = this.stage;
    const held = (['pilot', 'bulk', 'cause'] as const).filter(name => window[name]);
    this.other.replaceChildren(
      ...held.map(name =>
        button(`${name} ${String(window[name])} ✕`, () => this.filter({ [name]: null }), {
          class: 'jrm-chip',
          title: trans.__('Do not filter by this'),
          pressed: true
        })
      )
    );
  }

  private states(): Set<string> {
    return new Set(String(this.stage.window()['state'] ?? '').split(',').filter(Boolean));
  }

  private counts(counts: Record<string, number>): void {
    this.chips.show(counts, this.states());
  }

  private toggle(state: string): void {
    const wanted = this.states();
    if (!wanted.delete(state)) wanted.add(state);
    this.filter({ state: [...wanted].join(',') || null });
  }

  private charted(on: boolean): void {
    this.chart.setAttribute('aria-pressed', String(on));
    if (on && !this.panel) {
      const panel = (this.panel = new Panel(this.stage, () => undefined));
      this.figure.append(panel.host);
      this.keep = panel.keep(() => this.shown?.at ?? Date.now() / 1000);
      this.chart.after(this.keep);
      if (this.shown) this.panel.push(this.shown.picture);
    } else if (!on && this.panel) {
      this.panel.dispose();
      this.figure.replaceChildren();
      this.keep?.remove();
      this.panel = null;
    }
    // The server makes no table that nobody draws.
    this.stage.move({ bins: on ? BINS : 0 });
  }

  private choose(keys: string[], last: string): void {
    this.chosen = keys;
    this.buttons();
    if (!last) this.close();
    select({ session: this.stage.session, uid: last, from: this.stage });
  }

  private close(): void {
    const held = this.details.element.contains(document.activeElement);
    this.details.show('');
    if (held) this.grid.element.focus();
  }

  /** Something was chosen in another view. */
  private link(uid: string): void {
    this.grid.link(uid);
    if (/^p\.\d+$/.test(uid)) this.filter({ pilot: uid, bulk: null });
    else if (/^t\.\d+\.\d+$/.test(uid)) this.details.show(uid);
  }

  private again(): object {
    if (this.chosen.length) return { uids: this.chosen };
    const window = this.stage.window();
    const names = ['bulk', 'pilot', 'cause', 'search'] as const;
    const held = names.filter(name => window[name]).map(name => [name, String(window[name])]);
    return { filter: { ...Object.fromEntries(held), state: 'FAILED' } };
  }

  private buttons(): void {
    const { trans } = this.stage;
    const closed = this.shown?.picture.values['state'] === 'closed' ? trans.__('The session is closed') : '';
    const count = this.chosen.length;
    const none = count ? '' : trans.__('Choose tasks in the table first (Ctrl or Shift for several)');
    write(this.cancel, count ? trans.__('Cancel %1', number(count)) : trans.__('Cancel'));
    const { server } = this.stage;
    allow(this.cancel, closed || server.why('write', 'tasks', trans) || none, trans.__('Cancel the chosen tasks'));
    const failed = Number(this.shown?.picture.values['counts']?.['FAILED'] ?? 0);
    // Of the chosen ones that are not on the screen nothing is known: those may be retried.
    const states = new Map(this.shown ? records(this.shown.picture, 'tasks').map(row => [row['uid'], row['state']]) : []);
    const could = this.chosen.some(uid => ['FAILED', 'CANCELED', undefined].includes(states.get(uid)));
    const cannot = trans._n('It has neither failed nor been canceled', 'None of them has failed or been canceled', count);
    write(this.retry, count ? trans.__('Retry %1', number(count)) : trans.__('Retry failed'));
    allow(
      this.retry,
      closed || server.why('execute', 'tasks', trans) || (count ? (could ? '' : cannot) : failed ? '' : trans.__('No task has failed')),
      trans.__('Submit what failed or was canceled again, as new tasks')
    );
  }

  private async act(what: 'cancel' | 'retry', body: object): Promise<void> {
    const { stage } = this;
    const { trans } = stage;
    try {
      const path = `sessions/${encodeURIComponent(stage.session)}/tasks/${what}`;
      const done = await stage.server.ask(path, 'POST', body);
      this.said.replaceChildren();
      const hit = what === 'cancel' ? done.canceled : done.submitted;
      if (what === 'cancel' && hit) this.tell(trans._n('%1 task canceled', '%1 tasks canceled', hit, number(hit)));
      else if (hit) this.tell(trans._n('%1 task submitted again', '%1 tasks submitted again', hit, number(hit)));
      else if (what === 'cancel') this.tell(trans.__('0 of %1: what has ended cannot be canceled', number(done.named)));
      else this.tell(trans.__('0 of %1: only failed and canceled tasks can be retried', number(done.named)));
    } catch (error) {
      this.said.replaceChildren(notice(trouble(error), trans, () => this.said.replaceChildren(), trans.__('Close')));
    }
  }

  /** Say what a button did, for some seconds, where everybody sees it. */
  private tell(text: string): void {
    this.stage.say(text);
    clearTimeout(this.doneTimer);
    write(this.done, text);
    this.done.hidden = false;
    this.doneTimer = setTimeout(() => (this.done.hidden = true), TOLD_MS);
  }
}
