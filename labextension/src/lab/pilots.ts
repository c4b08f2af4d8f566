// The pilots of one session in the panel: state, reason, age, and the buttons that end them or stop them for a while.

import { allow, button, fill, h, write, type Trans } from '../core/dom';
import type { Shown } from '../core/feed';
import { select } from '../core/page';
import { notice, since, stateOf, trouble } from '../core/parts';
import { records } from '../core/picture';
import { FINAL, number } from '../core/texts';
import type { Model } from './model';

interface Item {
  element: HTMLElement;
  show(row: Record<string, any>, closed: string): void;
}

/** Is a pilot at a site that is reached by a login or has a batch system? */
export function away(row: Record<string, any>): boolean {
  return !['local', 'noop'].includes(String(row['site']));
}

export type JobOp = 'suspend' | 'resume';

/** Say why the job of a pilot cannot be suspended, or go on again, just now; empty: it can. */
export function whyNot(op: JobOp, row: Record<string, any>, trans: Trans): string {
  const ops = row['ops'] as string[] | null;
  if (FINAL.has(row['state'])) return trans.__('It has ended');
  if (ops === null) return trans.__('Nothing was heard of its batch system yet');
  if (!ops.includes(op)) {
    return away(row) ? trans.__('Its site cannot do that') : trans.__('It has no batch job: it runs on this machine');
  }
  if (op === 'resume') return row['suspended'] ? '' : trans.__('It is not suspended');
  if (row['suspended']) return trans.__('It is suspended already');
  return ['STARTING', 'ACTIVE', 'DRAINING'].includes(row['state']) ? '' : trans.__('Its job does not run yet');
}

/** Have a pilot's batch system suspend or resume its job. */
export function tellJob(model: Model, session: string, uid: string, op: JobOp): Promise<Record<string, any>> {
  return model.server.ask(model.path(session, `/pilots/${uid}/job`), 'POST', { op });
}

export class Pilots {
  readonly element = h('div', {});
  private readonly none = h('div', { class: 'jrm-faint' });
  private readonly list = h('ul', { class: 'jrm-list' });
  private readonly past: HTMLDetailsElement;
  private readonly pastList = h('ul', { class: 'jrm-list' });
  private readonly items = new Map<string, Item>();

  constructor(
    private readonly session: string,
    private readonly model: Model,
    private readonly trans: Trans,
    private readonly open: (view: string, window: Record<string, unknown>) => void
  ) {
    this.past = h('details', {}, h('summary', {}, ''), this.pastList);
    this.past.hidden = true;
    this.element.append(this.none, this.list, this.past);
  }

  show(shown: Shown, closed: string): void {
    const { trans } = this;
    const rows = records(shown.picture, 'pilots');
    const over = rows.filter(row => FINAL.has(row['state']));
    const alive = rows.filter(row => !FINAL.has(row['state']));
    for (const row of rows) {
      const uid = String(row['uid']);
      if (!this.items.has(uid)) this.items.set(uid, this.item(row));
      this.items.get(uid)?.show(row, closed);
    }
    this.place(this.list, alive);
    this.place(this.pastList, over);
    this.past.hidden = over.length === 0;
    write(this.past.firstElementChild as Element, trans._n('%1 that ended', '%1 that ended', over.length, over.length));
    this.none.hidden = alive.length > 0;
    write(
      this.none,
      closed || trans.__('No pilot: tasks wait until one is there. Start one, on this machine or on a cluster.')
    );
  }

  private place(list: HTMLElement, rows: Record<string, any>[]): void {
    const uids = rows.map(row => String(row['uid']));
    const before = [...list.children].map(each => (each as HTMLElement).dataset['uid']);
    if (uids.join() !== before.join()) fill(list, ...uids.map(uid => this.items.get(uid)?.element));
  }

  private item(first: Record<string, any>): Item {
    const { trans } = this;
    const uid = String(first['uid']);
    const state = h('span', {});
    const age = h('span', { style: 'margin-left:auto' });
    const size = h('div', { class: 'jrm-faint' });
    const reason = h('div', { class: 'jrm-reason' });
    const said = h('div', {});
    const cancel = button(trans.__('Cancel'), () => void this.end(uid, false, said), {
      label: trans.__('Cancel pilot %1', uid)
    });
    const drain = button(trans.__('Drain'), () => void this.end(uid, true, said), {
      label: trans.__('Drain pilot %1', uid)
    });
    let row = first;
    let asking = false;
    const suspend = button('', () => void stop(), {});
    const mine = (): string => this.model.server.why('write', 'pilots', trans);
    const offer = (): void => {
      const op = row['suspended'] ? 'resume' : 'suspend';
      const resumes = op === 'resume';
      write(suspend, resumes ? trans.__('Resume') : trans.__('Suspend'));
      suspend.setAttribute('aria-label', resumes ? trans.__('Resume pilot %1', uid) : trans.__('Suspend pilot %1', uid));
      allow(
        suspend,
        asking ? trans.__('Its batch system is being asked') : mine() || whyNot(op, row, trans),
        resumes ? trans.__('Let its job go on') : trans.__('Stop its job for a while: what runs in it stands still')
      );
    };
    const stop = async (): Promise<void> => {
      asking = true;
      offer();
      try {
        row = await tellJob(this.model, this.session, uid, row['suspended'] ? 'resume' : 'suspend');
        fill(said);
      } catch (error) {
        fill(said, notice(trouble(error), trans, () => fill(said), trans.__('Close')));
      }
      asking = false;
      offer();
    };
    const actions = h(
      'div',
      { class: 'jrm-actions' },
      button(trans.__('Its tasks'), () => this.open('tasks', { pilot: uid }), {
        label: trans.__('Tasks of pilot %1', uid)
      }),
      button(trans.__('Highlight'), () => select({ session: this.session, uid, from: this }), {
        label: trans.__('Highlight pilot %1 in all views', uid),
        title: trans.__('Show in all open views what belongs to it')
      }),
      suspend,
      drain,
      cancel
    );
    const title = h('b', {});
    const element = h(
      'li',
      // What its menu does, it does to this pilot.
      { class: 'jrm-pilot', oncontextmenu: () => (this.model.pointed = { session: this.session, pilot: uid }) },
      h('div', { class: 'jrm-line' }, title, state, age),
      size,
      reason,
      said,
      actions
    );
    element.dataset['uid'] = uid;
    let before = '';
    return {
      element,
      show: (told, closed) => {
        row = told;
        const name = String(row['name'] ?? '');
        write(title, name && name !== uid ? `${uid} ${name}` : uid);
        const now = `${row['state']} ${row['unreachable']} ${row['suspended']} ${row['since']}`;
        if (now !== before) {
          before = now;
          // What stands still cannot answer.
          const odd = row['suspended'] ? trans.__('suspended') : row['unreachable'] ? trans.__('unreachable') : '';
          fill(state, stateOf(row['state']), odd ? ' ' : null, odd ? h('span', { class: 'jrm-bad' }, odd) : null);
          fill(age, row['since'] ? since(row['since'], this.model.feed.ahead) : null);
        }
        const parts = [
          String(row['site']),
          // How much it is turns out when the site has answered.
          row['nodes'] ? trans._n('%1 node', '%1 nodes', row['nodes'], number(row['nodes'])) : '',
          row['cores'] ? trans._n('%1 core', '%1 cores', row['cores'], number(row['cores'])) : '',
          row['gpus'] ? trans._n('%1 GPU', '%1 GPUs', row['gpus'], number(row['gpus'])) : '',
          row['running'] ? trans.__('%1 running', number(row['running'])) : '',
          row['job_id'] ? trans.__('job %1', row['job_id']) : ''
        ];
        write(size, parts.filter(Boolean).join(' · '));
        write(reason, String(row['reason'] ?? ''));
        const over = FINAL.has(row['state']);
        actions.hidden = over;
        allow(cancel, over ? closed || trans.__('It has ended') : mine(), trans.__('End it now; what runs in it ends'));
        offer();
        const draining = row['state'] === 'DRAINING' ? trans.__('It drains already') : '';
        const early = ['ACTIVE', 'DRAINING'].includes(row['state']) ? '' : trans.__('It is not active yet: cancel it');
        allow(drain, mine() || draining || early, trans.__('Take no new tasks, and end when what runs has ended'));
      }
    };
  }

  private async end(uid: string, drain: boolean, said: HTMLElement): Promise<void> {
    try {
      await this.model.server.ask(this.model.path(this.session, `/pilots/${uid}/cancel`), 'POST', { drain });
      fill(said);
    } catch (error) {
      fill(said, notice(trouble(error), this.trans, () => fill(said), this.trans.__('Close')));
    }
  }
}
