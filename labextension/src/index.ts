// The plugins of JupyterLab and Notebook 7. Everything of the shell that may be missing is optional, and nothing waits
// for the network. Read next: lab/panel.ts, lab/commands.ts, core/view.ts.

import { ILabShell, ILayoutRestorer, type JupyterFrontEnd, type JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ICommandPalette } from '@jupyterlab/apputils';
import { ILauncher } from '@jupyterlab/launcher';
import { IRunningSessionManagers } from '@jupyterlab/running';
import { ISettingRegistry } from '@jupyterlab/settingregistry';
import { IStatusBar } from '@jupyterlab/statusbar';
import { ITranslator, nullTranslator } from '@jupyterlab/translation';
import type { Trans } from './core/dom';
import { setOpener } from './core/page';
import { Status, addNotices, addRunning } from './lab/around';
import { IDS, addCommands } from './lab/commands';
import { mainIcon } from './lab/icons';
import { Views } from './lab/mainarea';
import { Model } from './lab/model';
import { SessionsPanel } from './lab/panel';
import { labServer } from './lab/place';

const plugin: JupyterFrontEndPlugin<void> = {
  id: 'jupyter_rm:plugin',
  description: 'Sessions, pilots and tasks: panel, live views, notices.',
  autoStart: true,
  optional: [
    ...[ILabShell, ICommandPalette, ILauncher, ILayoutRestorer, IStatusBar],
    ...[ISettingRegistry, ITranslator, IRunningSessionManagers]
  ],
  activate: (
    app: JupyterFrontEnd,
    shell: ILabShell | null,
    palette: ICommandPalette | null,
    launcher: ILauncher | null,
    restorer: ILayoutRestorer | null,
    statusBar: IStatusBar | null,
    settings: ISettingRegistry | null,
    translator: ITranslator | null,
    running: IRunningSessionManagers | null
  ) => {
    const trans: Trans = (translator ?? nullTranslator).load('jupyter_rm');
    const { commands } = app;
    const model = new Model(labServer());
    const views = new Views(app, model.server, trans, shell !== null);
    setOpener((view, session, window) => void views.show(view, session, window));

    const panel = new SessionsPanel(model, trans, {
      openSession: () => void commands.execute(IDS.open),
      closeSession: session => void commands.execute(IDS.close, { session }),
      detach: session => void commands.execute(IDS.detach, { session }),
      show: (view, session, window) => void commands.execute(IDS.view, { view, session, window: window as any })
    });
    panel.id = 'jupyter_rm-panel';
    panel.title.icon = mainIcon;
    panel.title.caption = trans.__('Sessions, pilots and tasks');
    app.shell.add(panel, 'left', { rank: 600, type: 'jupyter_rm' });
    restorer?.add(panel, panel.id);
    const showPanel = (): void => {
      (app.shell as { expandLeft?: (id?: string) => void }).expandLeft?.(shell ? undefined : panel.id);
      app.shell.activateById(panel.id);
    };

    addCommands({ app, model, views, trans, palette, showPanel, askPilot: session => panel.ask(session) });
    if (restorer) views.restore(restorer, IDS.view);
    if (launcher) {
      const category = 'jupyter_rm';
      launcher.add({ command: IDS.open, category, rank: 0, args: { isLauncher: true } });
      launcher.add({ command: IDS.pilot, category, rank: 1, args: { isLauncher: true } });
      launcher.add({ command: IDS.view, category, rank: 2, args: { isLauncher: true, view: 'tasks' } });
      launcher.add({ command: IDS.view, category, rank: 3, args: { isLauncher: true, view: 'nodes' } });
    }
    statusBar?.registerStatusItem('jupyter_rm:status', {
      item: new Status(model, trans, commands),
      align: 'left',
      rank: 900,
      isActive: () => model.open.length > 0,
      activeStateChanged: model.changed as any
    });
    if (running) addRunning(running, model, trans, commands);

    let quiet: string[] = [];
    void settings
      ?.load(plugin.id)
      .then(loaded => {
        const read = (): void => {
          const notices = loaded.composite['notices'] as Record<string, boolean> | undefined;
          quiet = Object.entries(notices ?? {}).filter(([, on]) => !on).map(([kind]) => kind);
        };
        loaded.changed.connect(read);
        read();
      })
      .catch(() => undefined);
    addNotices(app.serviceManager.events, trans, commands, kind => !quiet.includes(kind));

    void app.restored.then(() => model.look());
  }
};

export default plugin;
