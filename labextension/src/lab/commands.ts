// Commands: what can be done from the palette, the launcher, menus and keys; panel and notices use them too.

import type { JupyterFrontEnd } from '@jupyterlab/application';
import { Dialog, InputDialog, Notification, showDialog, showErrorMessage, type ICommandPalette } from '@jupyterlab/apputils';
import type { ReadonlyPartialJSONObject } from '@lumino/coreutils';
import type { Trans } from '../core/dom';
import { trouble } from '../core/parts';
import { ServerError, type Server } from '../core/server';
import { FINAL, number, open } from '../core/texts';
import { TITLES, type Window } from '../core/view';
import { mainIcon, viewIcons } from './icons';
import type { Views } from './mainarea';
import type { Model } from './model';
import { tellJob, whyNot, type JobOp } from './pilots';

export const IDS = {
  panel: 'jupyter_rm:show-panel',
  open: 'jupyter_rm:open-session',
  close: 'jupyter_rm:close-session',
  detach: 'jupyter_rm:detach-session',
  pilot: 'jupyter_rm:start-pilot',
  view: 'jupyter_rm:show-view',
  logs: 'jupyter_rm:show-pilot-logs',
  retry: 'jupyter_rm:retry-failed',
  suspend: 'jupyter_rm:suspend-pilot',
  resume: 'jupyter_rm:resume-pilot',
  broker: 'jupyter_rm:start-broker'
} as const;

const SEEN = 130; // characters that Lab shows of a notice

type Args = ReadonlyPartialJSONObject;

export interface Needs {
  app: JupyterFrontEnd;
  model: Model;
  views: Views;
  trans: Trans;
  palette: ICommandPalette | null;
  showPanel(): void;
  askPilot(session: string): void;
}

/** Tell what went wrong, and what to do. */
export function complain(error: unknown): void {
  const told = trouble(error);
  const text = [told.message, told.hint].filter(Boolean).join('\n');
  const title = told.code || 'jupyter_rm';
  // Lab cuts a long one off.
  const whole = { label: 'All of it', callback: () => void showErrorMessage(title, text) };
  Notification.error(`${title}: ${text}`, { autoClose: 10_000, actions: text.length + title.length > SEEN ? [whole] : [] });
}

type Right = Parameters<Server['why']>;

/** Say so when this person may not do something; else nothing. */
async function refused(model: Model, action: Right[0], resource: Right[1], trans: Trans): Promise<boolean> {
  await model.server.learn();
  const why = model.server.why(action, resource, trans);
  if (why) complain(new ServerError('JRM-H403', why, '', false, 403));
  return why !== '';
}

export function addCommands(needs: Needs): void {
  const { app, model, views, trans, palette } = needs;
  const { commands } = app;
  const category = 'jupyter_rm';

  /** Return the session that is meant: the one named, the one in focus, the only one, or the one a person picks. */
  const which = async (args: Args): Promise<string> => {
    if (typeof args['session'] === 'string' && args['session']) return args['session'];
    await listed();
    const names = model.open.map(line => line.name);
    if (names.length <= 1) return names[0] ?? '';
    if (model.chosen && names.includes(model.chosen)) return model.chosen;
    const items = names;
    const chosen = await InputDialog.getItem({ title: trans.__('Which session?'), items, okLabel: trans.__('Choose') });
    return chosen.button.accept ? (chosen.value ?? '') : '';
  };
  const listed = async (): Promise<void> => {
    model.follow();
    if (model.known) return;
    await new Promise<void>(done => {
      const end = (): void => {
        clearTimeout(timer);
        model.changed.disconnect(check);
        done();
      };
      const timer = setTimeout(end, 10_000);
      const check = (): void => {
        if (model.known) end();
      };
      model.changed.connect(check);
    });
  };
  const none = (): void => {
    Notification.info(trans.__('There is no open session yet.'), {
      actions: [{ label: trans.__('Open one'), callback: () => void commands.execute(IDS.open) }]
    });
  };
  const text = { type: 'string' as const };
  const described = (properties: Record<string, object>): { args: any } => ({ args: { type: 'object', properties } });

  commands.addCommand(IDS.panel, {
    label: trans.__('Show sessions'),
    caption: trans.__('Show the panel of sessions, pilots and tasks'),
    icon: mainIcon,
    describedBy: described({}),
    execute: () => needs.showPanel()
  });

  commands.addCommand(IDS.open, {
    label: args => (args['isLauncher'] ? trans.__('Session') : trans.__('Open a session')),
    caption: trans.__('Open a session of pilots and tasks, or make a new one'),
    icon: mainIcon,
    describedBy: described({ session: text }),
    execute: async args => {
      if (await refused(model, 'write', 'sessions', trans)) return;
      let name = typeof args['session'] === 'string' ? args['session'] : '';
      if (!name) {
        const asked = await InputDialog.getText({
          title: trans.__('Open a session'),
          label: trans.__('Name: a new one makes a new session'),
          text: model.current || 'default',
          okLabel: trans.__('Open')
        });
        if (!asked.button.accept || !asked.value?.trim()) return;
        name = asked.value.trim();
      }
      try {
        await model.server.ask('sessions', 'POST', { name });
      } catch (error) {
        return complain(error);
      }
      model.follow();
      model.current = name;
      needs.showPanel();
    }
  });

  commands.addCommand(IDS.close, {
    label: trans.__('Close a session'),
    caption: trans.__('Cancel what is open in a session and end its pilots'),
    describedBy: described({ session: text }),
    execute: async args => {
      if (await refused(model, 'write', 'sessions', trans)) return;
      const name = await which(args);
      if (!name) return none();
      const line = model.line(name);
      const left = line ? open(line.tasks) : 0;
      const alive = line?.pilots.filter(each => !['DONE', 'FAILED', 'CANCELED'].includes(each[2])).length ?? 0;
      const asked = await showDialog({
        title: trans.__('Close session %1?', name),
        body: trans.__(
          'This cancels %1 and ends %2. What has ended stays recorded.',
          trans._n('%1 open task', '%1 open tasks', left, number(left)),
          trans._n('%1 pilot', '%1 pilots', alive, number(alive))
        ),
        buttons: [Dialog.cancelButton({ label: trans.__('Keep it') }), Dialog.warnButton({ label: trans.__('Close it') })]
      });
      if (!asked.button.accept) return;
      await model.server.ask(model.path(name), 'DELETE').catch(complain);
    }
  });

  commands.addCommand(IDS.detach, {
    label: trans.__('Detach from a session'),
    caption: trans.__('Stop following a session in this server; everything in it goes on'),
    describedBy: described({ session: text }),
    execute: async args => {
      const name = await which(args);
      if (!name) return none();
      const told = await model.server.ask(model.path(name, '/detach'), 'POST').catch(complain);
      if (!told) return;
      for (const widget of views.tracker.filter(each => each.content.asked.session === name)) widget.close();
      if (model.current === name) model.current = model.open.find(line => line.name !== name)?.name ?? '';
      Notification.info(trans.__('Session %1 goes on without this page.', name), { autoClose: 4000 });
    }
  });

  commands.addCommand(IDS.pilot, {
    label: args => (args['isLauncher'] ? trans.__('Pilot') : trans.__('Start a pilot')),
    caption: trans.__('Ask a site for a pilot: a placeholder job that tasks run in'),
    icon: mainIcon,
    describedBy: described({ session: text }),
    execute: async args => {
      const name = await which(args);
      if (!name) return none();
      needs.showPanel();
      needs.askPilot(name);
    }
  });

  commands.addCommand(IDS.view, {
    label: args => {
      const title = (TITLES[String(args['view'])] ?? (() => trans.__('View')))(trans);
      return args['isLauncher'] ? title : trans.__('Show %1', title.toLowerCase());
    },
    caption: args => trans.__('A live view of a session: %1', String(args['view'] ?? '')),
    icon: args => viewIcons[String(args['view'])] ?? mainIcon,
    describedBy: described({ view: { enum: Object.keys(TITLES) }, session: text, window: { type: 'object' } }),
    execute: async args => {
      const view = String(args['view'] ?? 'tasks');
      const name = await which(args);
      if (!name) return none();
      return views.show(view, name, (args['window'] ?? {}) as Window);
    }
  });

  commands.addCommand(IDS.logs, {
    label: trans.__('Show its logs'),
    caption: trans.__('What the agent of this pilot logs'),
    describedBy: described({}),
    isEnabled: () => model.pointed !== null,
    execute: () => {
      if (model.pointed) return views.show('logs', model.pointed.session, { component: model.pointed.pilot });
      return none();
    }
  });

  commands.addCommand(IDS.retry, {
    label: trans.__('Retry failed tasks'),
    caption: trans.__('Submit the failed tasks of a session again, as new tasks'),
    describedBy: described({ session: text }),
    execute: async args => {
      const name = await which(args);
      if (!name) return none();
      const body = { filter: { state: 'FAILED' } };
      const told = await model.server.ask(model.path(name, '/tasks/retry'), 'POST', body).catch(complain);
      if (told) {
        const said = trans._n('%1 task submitted again', '%1 tasks submitted again', told.submitted, number(told.submitted));
        Notification.info(said, { autoClose: 4000 });
      }
    }
  });

  const job = async (op: JobOp, args: Args): Promise<void> => {
    const name = args['here'] ? (model.pointed?.session ?? '') : await which(args);
    if (!name) return none();
    try {
      const told = await model.server.ask(model.path(name, '/pilots'));
      const meant = args['here'] ? model.pointed?.pilot : args['pilot'];
      const rows = (told.pilots as Record<string, any>[]).filter(row => (meant ? row['uid'] === meant : !FINAL.has(row['state'])));
      const able = rows.filter(row => !whyNot(op, row, trans));
      if (able.length === 0) {
        const why = rows.map(row => `${row['uid']}: ${whyNot(op, row, trans)}`);
        Notification.info(why.join('\n') || trans.__('Session %1 has no pilot.', name), { autoClose: 8000 });
        return;
      }
      let uid = String(able[0]?.['uid']);
      if (able.length > 1) {
        const title = op === 'suspend' ? trans.__('Suspend which pilot?') : trans.__('Resume which pilot?');
        const items = able.map(row => `${row['uid']} ${row['name'] || row['site']}`);
        const asked = await InputDialog.getItem({ title, items, okLabel: trans.__('Choose') });
        if (!asked.button.accept || !asked.value) return;
        uid = asked.value.split(' ')[0] ?? '';
      }
      await tellJob(model, name, uid, op);
      const said = op === 'suspend' ? trans.__('%1 is suspended: what runs in it stands still.', uid) : trans.__('%1 goes on.', uid);
      Notification.info(said, { autoClose: 4000 });
    } catch (error) {
      complain(error);
    }
  };
  commands.addCommand(IDS.suspend, {
    label: trans.__('Suspend a pilot'),
    caption: trans.__('Stop the job of a pilot for a while: what runs in it stands still, and nothing is lost'),
    describedBy: described({ session: text, pilot: text }),
    execute: args => job('suspend', args)
  });

  commands.addCommand(IDS.resume, {
    label: trans.__('Resume a pilot'),
    caption: trans.__('Let the suspended job of a pilot go on'),
    describedBy: described({ session: text, pilot: text }),
    execute: args => job('resume', args)
  });

  commands.addCommand(IDS.broker, {
    label: trans.__('Start the broker'),
    caption: trans.__('Reach the broker, starting it when none runs, and say how it is'),
    describedBy: described({}),
    execute: async () => {
      const told = await model.server.ask('broker', 'POST').catch(complain);
      if (!told) return;
      model.feed.again();
      model.follow();
      const { pid, profile } = told.broker;
      Notification.success(trans.__('The broker runs (pid %1, profile %2).', pid, profile), { autoClose: 4000 });
    }
  });

  if (!palette) return;
  const all = [IDS.panel, IDS.open, IDS.pilot, IDS.suspend, IDS.resume, IDS.close, IDS.detach, IDS.retry, IDS.broker];
  for (const command of all) palette.addItem({ command, category });
  for (const view of Object.keys(TITLES)) palette.addItem({ command: IDS.view, category, args: { view } });
}
