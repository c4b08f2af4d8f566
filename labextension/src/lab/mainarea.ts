// Views in a place of their own: tabs of JupyterLab's main area, or what Notebook has instead. Read next: ../core/view.ts.

import type { ILayoutRestorer, JupyterFrontEnd } from '@jupyterlab/application';
import { MainAreaWidget, WidgetTracker } from '@jupyterlab/apputils';
import type { Message } from '@lumino/messaging';
import { Widget } from '@lumino/widgets';
import type { Trans } from '../core/dom';
import type { Server } from '../core/server';
import { TITLES, mountView, type Mounted, type Window } from '../core/view';
import { mainIcon, viewIcons } from './icons';

interface Asked {
  view: string;
  session: string;
  window: Window;
}

class ViewWidget extends Widget {
  private mounted: Mounted | null = null;

  constructor(
    private readonly server: Server,
    private readonly trans: Trans,
    readonly asked: Asked,
    private readonly open: (view: string, session: string, window: Window) => void,
    private readonly moved: () => void
  ) {
    super();
    this.addClass('jrm-main');
    this.node.style.height = '100%';
  }

  /** Show another part of the same view. */
  move(window: Window): void {
    this.asked.window = window;
    this.mounted?.dispose();
    this.mounted = null;
    this.mount();
  }

  protected override onAfterAttach(_: Message): void {
    this.mount();
  }

  protected override onBeforeDetach(_: Message): void {
    this.mounted?.dispose();
    this.mounted = null;
  }

  protected override onActivateRequest(_: Message): void {
    this.mounted?.focus();
  }

  private mount(): void {
    if (this.mounted || !this.isAttached) return;
    const { server, trans, open, asked } = this;
    this.mounted = mountView(this.node, {
      ...{ ...asked, server, trans, open, place: 'full' as const },
      moved: window => {
        asked.window = window;
        this.moved();
      }
    });
  }
}

export class Views {
  readonly tracker = new WidgetTracker<MainAreaWidget<ViewWidget>>({ namespace: 'jupyter_rm-views' });

  constructor(
    private readonly app: JupyterFrontEnd,
    private readonly server: Server,
    private readonly trans: Trans,
    /** Does the shell have a main area with tabs? */
    private readonly tabs: boolean
  ) {}

  /** Bring views back after a reload. */
  restore(restorer: ILayoutRestorer, command: string): void {
    void restorer.restore(this.tracker, {
      command,
      args: widget => ({ ...widget.content.asked, window: widget.content.asked.window as any }),
      name: widget => widget.id
    });
  }

  show(view: string, session: string, window: Window): MainAreaWidget<ViewWidget> {
    const id = `jupyter_rm-${view}-${session}`;
    const found = this.tracker.find(widget => widget.id === id && !widget.isDisposed);
    if (found) {
      if (Object.keys(window).length) found.content.move(window);
      this.reveal(found);
      return found;
    }
    const { trans } = this;
    const title = (TITLES[view] ?? (() => view))(trans);
    const content = new ViewWidget(
      this.server,
      trans,
      { view, session, window },
      (...other) => void this.show(...other),
      () => void this.tracker.save(widget)
    );
    const widget = new MainAreaWidget({ content });
    widget.id = id;
    widget.toolbar.hide();
    widget.title.label = `${title} · ${session}`;
    widget.title.caption = trans.__('%1 of session %2', title, session);
    widget.title.icon = viewIcons[view] ?? mainIcon;
    widget.title.closable = true;
    void this.tracker.add(widget);
    this.app.shell.add(widget, this.tabs ? 'main' : 'right', { type: 'jupyter_rm' });
    this.reveal(widget);
    return widget;
  }

  private reveal(widget: Widget): void {
    // Notebook's main area holds the notebook alone, and its right area is closed at first.
    if (!this.tabs) (this.app.shell as { expandRight?: (id: string) => void }).expandRight?.(widget.id);
    this.app.shell.activateById(widget.id);
  }
}
