// The renderer of views in cells, in JupyterLab and Notebook 7: a live view where its session is at hand, else the
// picture that the notebook carries and a button that connects. What is drawn never comes from the notebook itself but
// for that picture, which is shown as an image or cleaned of all that acts.

import type { IRenderMime } from '@jupyterlab/rendermime-interfaces';
import { Widget } from '@lumino/widgets';
import { ENGLISH, h, type Trans } from './core/dom';
import { opener } from './core/page';
import { notice, trouble } from './core/parts';
import type { Trouble } from './core/picture';
import { ensureStyle, pageTheme, watchTheme } from './core/style';
import { mountView, type Mounted, type Window } from './core/view';
import { labServer } from './lab/place';

const MIME = 'application/vnd.jupyter-rm.view+json';

interface Told {
  view: string;
  session: string;
  window: Window;
  opened_at?: number;
}

class LiveOutput extends Widget implements IRenderMime.IRenderer {
  private mounted: Mounted | null = null;
  private before = '';
  private readonly end: () => void;
  private readonly trans: Trans;

  constructor(private readonly options: IRenderMime.IRendererOptions) {
    super();
    ensureStyle();
    this.addClass('jrm');
    this.trans = options.translator?.load('jupyter_rm') ?? ENGLISH;
    const dark = (): void => void this.toggleClass('jrm-dark', pageTheme() === 'dark');
    dark();
    this.end = watchTheme(dark);
  }

  async renderModel(model: IRenderMime.IMimeModel): Promise<void> {
    const told = read(model.data[MIME]);
    const now = JSON.stringify(told);
    if (this.mounted && now === this.before) return;
    this.clear();
    this.before = now;
    if (!told) {
      const broken: Trouble = {
        ...{ code: 'JRM-W09', message: this.trans.__('this output names no view') },
        ...{ hint: this.trans.__('run the cell again'), retry: false }
      };
      this.still(model, broken);
      return;
    }
    // A picture at once; alive a moment later.
    this.still(model, null);
    const why = await this.whyNot(told);
    if (this.isDisposed || now !== this.before) return;
    if (why) this.still(model, why, () => this.live(told));
    else this.live(told);
  }

  override dispose(): void {
    if (this.isDisposed) return;
    this.end();
    this.clear();
    super.dispose();
  }

  private clear(): void {
    this.mounted?.dispose();
    this.mounted = null;
    this.node.replaceChildren();
  }

  private live(told: Told): void {
    this.clear();
    this.mounted = mountView(this.node, {
      ...{ view: told.view, session: told.session, window: told.window },
      ...{ server: labServer(), trans: this.trans, place: 'cell' as const, open: opener() }
    });
  }

  /** Return why the view is not shown alive by itself: an old notebook starts no broker and connects to nothing. */
  private async whyNot(told: Told): Promise<Trouble | null> {
    const { trans } = this;
    const hint = trans.__('Reconnect, or run the cell again');
    const asleep = (message: string): Trouble => ({ code: '', message, hint, retry: true });
    try {
      const server = labServer();
      const status = await server.ask('status');
      if (!status.broker.up) return asleep(trans.__('The last picture; no broker runs just now'));
      const { sessions } = await server.ask('sessions');
      const line = sessions.find((each: { name: string }) => each.name === told.session);
      if (!line) return asleep(trans.__('The last picture; there is no session %1 here', told.session));
      if (line.state !== 'open') return asleep(trans.__('The last picture; session %1 is closed', told.session));
      if (told.opened_at && Math.abs(told.opened_at - line.opened_at) > 1) {
        return asleep(trans.__('The last picture, of an earlier session %1', told.session));
      }
      return null;
    } catch (error) {
      return trouble(error);
    }
  }

  private still(model: IRenderMime.IMimeModel, why: Trouble | null, again?: () => void): void {
    const picture = this.picture(model);
    this.node.replaceChildren(picture);
    if (!why) return;
    const told = notice(why, this.trans, again, this.trans.__('Reconnect'));
    this.node.prepend(told);
  }

  private picture(model: IRenderMime.IMimeModel): HTMLElement {
    const data = model.data;
    const text = (mime: string): string => {
      const value = data[mime];
      return Array.isArray(value) ? value.join('') : typeof value === 'string' ? value : '';
    };
    const label = text('text/plain') || this.trans.__('the last picture of a view');
    if (text('image/png')) return h('img', { src: `data:image/png;base64,${text('image/png')}`, alt: label });
    // As an image an SVG can run nothing and load nothing.
    const svg = text('image/svg+xml');
    if (svg) return h('img', { src: `data:image/svg+xml,${encodeURIComponent(svg)}`, alt: label });
    const html = text('text/html');
    if (html) {
      const made = h('div', { class: 'jp-RenderedHTMLCommon' });
      made.innerHTML = this.options.sanitizer.sanitize(html);
      return made;
    }
    return h('pre', {}, label);
  }
}

function read(data: unknown): Told | null {
  const told = data as Partial<Told> | undefined;
  if (typeof told?.view !== 'string' || typeof told.session !== 'string') return null;
  const window = told.window && typeof told.window === 'object' ? told.window : {};
  const made: Told = { view: told.view, session: told.session, window };
  if (typeof told.opened_at === 'number') made.opened_at = told.opened_at;
  return made;
}

const extension: IRenderMime.IExtension = {
  id: 'jupyter_rm:view',
  rendererFactory: {
    safe: true,
    mimeTypes: [MIME],
    // Before the picture that stands beside it in the same output.
    defaultRank: -20, // before the widget (-10) that the kernel feeds where this renderer is not installed
    createRenderer: options => new LiveOutput(options)
  },
  dataType: 'json'
};

export default extension;
