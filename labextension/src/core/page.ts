// What all views of one page share, also those of another copy of this code: feeds by server, and the selection.
// Knows feeds and servers. Read next: view.ts.

import { Feed, socket, type Dial } from './feed';
import type { Server } from './server';

/** What a person has chosen; every view of the session shows it. */
export interface Selection {
  session: string;
  /** A task `t.3.17`, a submission `t.3` or a pilot `p.0`; empty: nothing. */
  uid: string;
  /** The view it was chosen in. */
  from: unknown;
}

interface Shared {
  feeds: Map<string, Feed>;
  selections: EventTarget;
  /** Per session, so that a view opened later knows it. */
  chosen: Map<string, string>;
  /** Shows a view in a place of its own; JupyterLab's plugin sets it. */
  open?: Opener;
}

export type Opener = (view: string, session: string, window: Record<string, unknown>) => void;

const NAME = Symbol.for('jupyter_rm.page.1');

function shared(): Shared {
  const root = globalThis as unknown as Record<symbol, Shared | undefined>;
  return (root[NAME] ??= { feeds: new Map(), selections: new EventTarget(), chosen: new Map() });
}

/** Return the one feed of this page and server. */
export function feedOf(server: Server, dial?: Dial): Feed {
  const { feeds } = shared();
  let feed = feeds.get(server.key);
  if (!feed) feeds.set(server.key, (feed = new Feed(dial ?? socket(server))));
  return feed;
}

/** Choose a task or pilot in all views of its session. */
export function select(selection: Selection): void {
  const { selections, chosen } = shared();
  chosen.set(selection.session, selection.uid);
  selections.dispatchEvent(new CustomEvent('select', { detail: selection }));
}

/** Return what is chosen in a session; empty for nothing. */
export function selected(session: string): string {
  return shared().chosen.get(session) ?? '';
}

/** Be told what is chosen; call what is returned to hear no more. */
export function onSelect(heard: (selection: Selection) => void): () => void {
  const { selections } = shared();
  const listener = (event: Event): void => heard((event as CustomEvent<Selection>).detail);
  selections.addEventListener('select', listener);
  return () => selections.removeEventListener('select', listener);
}

/** Return how to show a view in a place of its own; undefined when this page has none. */
export function opener(): Opener | undefined {
  return shared().open;
}

export function setOpener(open: Opener): void {
  shared().open = open;
}
