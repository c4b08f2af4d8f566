// The way to the Jupyter server: where it is, who asks, and how an answer that is an error is told.
// Knows fetch and nothing of Lab: a page of Lab gives its own fetch. Read next: feed.ts.

import type { Trans } from './dom';
import type { Trouble } from './picture';

/** Where the server is. All of it can be found out on a page of JupyterLab or Notebook. */
export interface Place {
  /** Such as `/user/me/`, or a whole URL. */
  baseUrl: string;
  /** Of websockets; else made of baseUrl. */
  wsUrl?: string;
  /** Only where no cookie does: pages of the server itself have one. */
  token?: string;
  /** Put the token into the URL of the websocket: the page comes from elsewhere, so no cookie goes along. */
  appendToken?: boolean;
  fetch?: (url: string, init: RequestInit) => Promise<Response>;
}

/** An answer that is an error, and the next step. */
export class ServerError extends Error implements Trouble {
  constructor(
    readonly code: string,
    message: string,
    readonly hint: string,
    readonly retry: boolean,
    readonly status: number
  ) {
    super(message);
  }
}

export class Server {
  private may: Record<string, string[]> | null = null;
  private learning: Promise<void> | null = null;

  constructor(readonly place: Place) {}

  /** Find out, once, what this person may do; without an answer all buttons can be pressed, and the server refuses. */
  learn(): Promise<void> {
    this.learning ??= this.ask('status').then(
      told => void (this.may = told.may ?? null),
      () => void (this.learning = null)
    );
    return this.learning;
  }

  /** Say why this person may not do something; empty: they may, as far as is known. */
  why(action: 'write' | 'execute', resource: 'sessions' | 'pilots' | 'tasks' | 'admin', trans: Trans): string {
    const may = this.may?.[resource];
    return !may || may.includes(action) ? '' : trans.__('You may not do this: ask who runs this Jupyter server');
  }

  /** The same server has the same key, whoever asks. */
  get key(): string {
    return this.url('');
  }

  url(path: string): string {
    const base = new URL(this.place.baseUrl || '/', globalThis.location?.href);
    if (!base.pathname.endsWith('/')) base.pathname += '/';
    return new URL(`jupyter-rm/${path}`, base).href;
  }

  feedUrl(): string {
    const url = new URL(this.url('feed'));
    url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
    if (this.place.wsUrl) {
      const given = new URL(this.place.wsUrl, globalThis.location?.href);
      url.protocol = given.protocol;
      url.host = given.host;
    }
    if (this.place.appendToken && this.place.token) url.searchParams.set('token', this.place.token);
    return url.href;
  }

  /** Ask the interface (docs/server.md): `path` below `api/`. Throws ServerError. */
  async ask(path: string, method = 'GET', body?: unknown, signal?: AbortSignal): Promise<any> {
    const init: RequestInit = { method };
    if (body !== undefined) init.body = JSON.stringify(body);
    if (signal) init.signal = signal;
    const answer = await this.fetch(this.url(`api/${path}`), init);
    const text = await answer.text();
    let told: any = null;
    try {
      told = JSON.parse(text);
    } catch {
      // Not ours: told below by its status.
    }
    if (answer.ok && told !== null) return told;
    throw failure(answer.status, told);
  }

  async fetch(url: string, init: RequestInit): Promise<Response> {
    try {
      if (this.place.fetch) return await this.place.fetch(url, init);
      const headers: Record<string, string> = {};
      if (this.place.token) headers['Authorization'] = `token ${this.place.token}`;
      const xsrf = /(?:^|;\s*)_xsrf=([^;]+)/.exec(globalThis.document?.cookie ?? '')?.[1];
      if (xsrf) headers['X-XSRFToken'] = xsrf;
      if (init.body) headers['Content-Type'] = 'application/json';
      return await fetch(url, { credentials: 'same-origin', ...init, headers });
    } catch (error) {
      if ((error as Error).name === 'AbortError') throw error;
      throw new ServerError(
        'JRM-W01',
        'the Jupyter server does not answer',
        'is it running, and the network up? Your work goes on; this page tries again by itself',
        true,
        0
      );
    }
  }
}

function failure(status: number, told: any): ServerError {
  if (told && typeof told.code === 'string') {
    return new ServerError(told.code, String(told.message), String(told.hint ?? ''), Boolean(told.retry), status);
  }
  const said = told && typeof told.message === 'string' && told.message ? `: ${told.message}` : '';
  if (status === 401 || status === 403) {
    return new ServerError('JRM-W02', `the Jupyter server refuses${said}`, 'reload the page to log in again', true, status);
  }
  if (status === 404) {
    return new ServerError(
      'JRM-W03',
      'the server half of jupyter_rm is missing',
      'install jupyter_rm where Jupyter runs and restart it: jupyter server extension list shows it',
      true,
      status
    );
  }
  return new ServerError('JRM-W04', `the Jupyter server answered ${status}${said}`, "see the server's log", true, status);
}

/** Return the server whose page this is, as pages of JupyterLab and Notebook tell. */
export function pagePlace(): Place | null {
  const told = globalThis.document?.getElementById('jupyter-config-data')?.textContent;
  if (!told) return null;
  try {
    const data = JSON.parse(told);
    return { baseUrl: data.baseUrl ?? '/', wsUrl: data.wsUrl || undefined };
  } catch {
    return null;
  }
}
