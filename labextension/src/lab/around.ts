// What stands around the panel: the item in the status bar, the sessions among what runs, and notices.

import { Notification } from '@jupyterlab/apputils';
import type { IRunningSessionManagers, IRunningSessions } from '@jupyterlab/running';
import type { Event } from '@jupyterlab/services';
import { Signal } from '@lumino/signaling';
import type { CommandRegistry } from '@lumino/commands';
import { Widget } from '@lumino/widgets';
import { button, h, write, type Trans } from '../core/dom';
import { swatch } from '../core/parts';
import { ensureStyle, pageTheme, watchTheme } from '../core/style';
import { number, open } from '../core/texts';
import { IDS, complain } from './commands';
import { mainIcon } from './icons';
import type { Model, SessionLine } from './model';

/** Running and failed tasks of all open sessions; leads to the panel, or to what failed. */
export class Status extends Widget {
  private readonly end: () => void;
  private readonly running = h('span', {});
  private readonly failed = h('span', {});
  private readonly bad: HTMLButtonElement;

  constructor(
    private readonly model: Model,
    private readonly trans: Trans,
    commands: CommandRegistry
  ) {
    super();
    ensureStyle();
    this.addClass('jrm');
    this.addClass('jrm-status');
    const good = button(
      h('span', { class: 'jrm-status' }, swatch('RUNNING'), this.running),
      () => void commands.execute(IDS.panel),
      { class: 'jrm-status-button', title: trans.__('Tasks that run. Show the sessions') }
    );
    this.bad = button(
      h('span', { class: 'jrm-status' }, swatch('FAILED'), this.failed),
      () => {
        const line = model.open.find(each => each.tasks['FAILED']);
        void commands.execute(IDS.view, { view: 'tasks', session: line?.name ?? '', window: { state: 'FAILED' } });
      },
      { class: 'jrm-status-button', title: trans.__('Tasks that failed. Show them') }
    );
    this.node.append(good, this.bad);
    const dark = (): void => void this.toggleClass('jrm-dark', pageTheme() === 'dark');
    dark();
    this.end = watchTheme(dark);
    model.changed.connect(this.draw, this);
    this.draw();
  }

  override dispose(): void {
    this.end();
    this.model.changed.disconnect(this.draw, this);
    super.dispose();
  }

  private draw(): void {
    const { model, trans } = this;
    const { counts } = model;
    write(this.running, trans.__('%1 running', number(counts['RUNNING'] ?? 0)));
    write(this.failed, trans.__('%1 failed', number(counts['FAILED'] ?? 0)));
    this.bad.hidden = !counts['FAILED'];
    this.bad.style.display = counts['FAILED'] ? '' : 'none';
    this.node.hidden = model.open.length === 0;
    this.setHidden(model.open.length === 0);
  }
}

/** List the open sessions among all that runs, and end them there. */
export function addRunning(managers: IRunningSessionManagers, model: Model, trans: Trans, commands: CommandRegistry): void {
  const signal = new Signal<unknown, void>(model);
  model.changed.connect(() => signal.emit());
  const item = (line: SessionLine): IRunningSessions.IRunningItem => ({
    label: () => line.name,
    labelTitle: () => trans.__('%1 tasks open, %2 pilots', number(open(line.tasks)), line.pilots.length),
    detail: () => trans.__('%1 open', number(open(line.tasks))),
    icon: () => mainIcon,
    open: () => void commands.execute(IDS.view, { view: 'tasks', session: line.name }),
    shutdown: () => void model.server.ask(model.path(line.name), 'DELETE').catch(complain)
  });
  managers.add({
    name: trans.__('Sessions of jupyter_rm'),
    running: () => model.open.map(item),
    shutdownAll: () => {
      for (const line of model.open) void model.server.ask(model.path(line.name), 'DELETE').catch(complain);
    },
    refreshRunning: () => void model.look(),
    runningChanged: signal,
    shutdownLabel: trans.__('Close session'),
    shutdownAllLabel: trans.__('Close all sessions'),
    shutdownAllConfirmationText: trans.__(
      'Close all sessions? What is open in them is canceled, and their pilots end.'
    )
  });
}

const SCHEMA = 'https://events.jupyter.org/jupyter_rm/notice/v1';

/** Tell what a person wants to hear of, with a button that leads there. */
export function addNotices(
  events: Event.IManager,
  trans: Trans,
  commands: CommandRegistry,
  wanted: (kind: string) => boolean
): void {
  events.stream.connect((_, emission) => {
    if (emission.schema_id !== SCHEMA) return;
    const told = emission as unknown as { kind: string; session: string; pilot: string; text: string };
    if (!wanted(told.kind)) return;
    const { session } = told;
    const show = (label: string, view: string, window: Record<string, string>): Notification.IAction => ({
      label,
      callback: () => void commands.execute(IDS.view, { view, session, window })
    });
    const text = `${session}: ${told.text}`;
    if (told.kind === 'tasks-failed') {
      const actions = [show(trans.__('Show them'), 'tasks', { state: 'FAILED', sort: 'ended', order: 'desc' })];
      Notification.warning(text, { actions, autoClose: false });
    } else if (told.kind === 'pilot-failed') {
      const actions = [{ label: trans.__('Show pilots'), callback: () => void commands.execute(IDS.open, { session }) }];
      Notification.error(text, { actions, autoClose: false });
    } else if (told.kind === 'pilot-active') {
      Notification.success(text, { actions: [show(trans.__('Show nodes'), 'nodes', {})], autoClose: 8000 });
    } else {
      Notification.success(text, { actions: [show(trans.__('Show tasks'), 'tasks', {})], autoClose: 8000 });
    }
  });
}
