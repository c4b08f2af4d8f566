// What the bundle for pages outside JupyterLab gives: live views in any element.
//
//   import { mountView } from './view.js';
//   const view = mountView(element, { view: 'tasks', session: 'study', baseUrl: '/', theme: 'auto' });
//   view.dispose();

export { mountView, type Mounted, type ViewOptions } from './view';
export { Feed, socket, type Dial, type Line, type LineEnd, type Shown } from './feed';
export { Server, ServerError, pagePlace, type Place } from './server';
export { feedOf, onSelect, select, selected } from './page';
export { ensureStyle, pageTheme, watchTheme } from './style';
export { EMPTY, patch, records, type Frame, type Picture, type Table } from './picture';
