// The Jupyter server as JupyterLab knows it. Read next: model.ts.

import { ServerConnection } from '@jupyterlab/services';
import { Server } from '../core/server';

let made: Server | undefined;

/** Return the server of this page; it asks with Lab's own login. */
export function labServer(): Server {
  if (made) return made;
  const settings = ServerConnection.makeSettings();
  made = new Server({
    baseUrl: settings.baseUrl,
    wsUrl: settings.wsUrl,
    token: settings.appendToken ? settings.token : undefined,
    appendToken: settings.appendToken,
    fetch: (url, init) => ServerConnection.makeRequest(url, init, settings)
  });
  return made;
}
