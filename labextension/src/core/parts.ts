// Small things that all views are made of: marks of states, notices of trouble, ages that grow.

import { button, h, write, type Trans } from './dom';
import type { Trouble } from './picture';
import { MARKS, age, moment, number } from './texts';

/** Return the coloured letter of a state; its word must stand beside it. */
export function swatch(state: string): HTMLElement {
  return h('span', { class: `jrm-mark jrm-s-${state}`, 'aria-hidden': 'true' }, MARKS[state]?.letter ?? '?');
}

/** Return a state as letter and word. */
export function stateOf(state: string): HTMLElement {
  return h('span', { class: 'jrm-state', title: MARKS[state]?.text }, swatch(state), state.toLowerCase());
}

/** Return a count of tasks in a state, as a button when it leads somewhere. */
export function chip(state: string, count: number, act?: () => void, pressed?: boolean): HTMLElement {
  const text = h('span', {}, swatch(state), ` ${state.toLowerCase()} `, h('b', {}, number(count)));
  if (!act) return h('span', { class: 'jrm-chip', title: MARKS[state]?.text }, text);
  const made = button(text, act, { class: 'jrm-chip', title: MARKS[state]?.text ?? '' });
  if (pressed !== undefined) made.setAttribute('aria-pressed', String(pressed));
  made.dataset['state'] = state;
  return made;
}

/** Return what happened and what to do. */
export function notice(trouble: Trouble, trans: Trans, again?: () => void, label?: string): HTMLElement {
  return h(
    'div',
    { class: 'jrm-notice', role: 'status' },
    h('div', {}, h('b', {}, trouble.message)),
    trouble.hint && h('div', {}, trans.__('Next: %1', trouble.hint)),
    h(
      'div',
      { class: 'jrm-notice-end' },
      trouble.code && h('span', { class: 'jrm-faint' }, trouble.code),
      again && button(label ?? trans.__('Try again'), again)
    )
  );
}

/** Return an error as what happened and what to do. */
export function trouble(error: unknown): Trouble {
  const known = error as Partial<Trouble>;
  if (typeof known.code === 'string' && known.code && typeof known.hint === 'string') return known as Trouble;
  return { code: 'JRM-W08', message: `this part broke: ${String(error)}`, hint: 'reload the page', retry: true };
}

/** Return an age that grows by itself while its element is on the page; `at`: seconds since 1970, server's clock. */
export function since(at: number, ahead: number): HTMLElement {
  const made = h('time', { class: 'jrm-age', title: moment(at), datetime: new Date(at * 1000).toISOString() });
  made.dataset['at'] = String(at - ahead);
  write(made, age(Date.now() / 1000 - (at - ahead)));
  ticking();
  return made;
}

let ticker: ReturnType<typeof setInterval> | undefined;

function ticking(): void {
  ticker ??= setInterval(() => {
    if (document.hidden) return;
    const now = Date.now() / 1000;
    const all = document.querySelectorAll<HTMLElement>('time.jrm-age');
    for (const each of all) write(each, age(now - Number(each.dataset['at'])));
    if (all.length === 0) {
      clearInterval(ticker);
      ticker = undefined;
    }
  }, 1000);
}

/** Say when an element can be seen by a person; call what is returned to stop. */
export function watchSeen(element: Element, told: (seen: boolean) => void): () => void {
  const observer = new IntersectionObserver(entries => {
    const last = entries[entries.length - 1];
    if (last) told(last.isIntersecting);
  });
  observer.observe(element);
  return () => observer.disconnect();
}

/** Return a function that runs `act` a moment after it was last called. */
export function later(act: () => void, ms: number): () => void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(act, ms);
  };
}
