// Counts of tasks per state, as buttons that stay where they are while the numbers change, and as a meter.

import { h, write } from './dom';
import { chip } from './parts';
import { TASK_STATES, number } from './texts';

export class Chips {
  readonly element: HTMLElement;
  private before = '';

  constructor(label: string, private readonly act: (state: string) => void, private readonly toggles: boolean) {
    this.element = h('span', { class: 'jrm-actions jrm-chips', role: 'group', 'aria-label': label });
  }

  show(counts: Record<string, number>, pressed: ReadonlySet<string> = new Set()): void {
    const names = TASK_STATES.filter(state => counts[state] || pressed.has(state));
    if (names.join() !== this.before) {
      const focused = (document.activeElement as HTMLElement | null)?.dataset['state'];
      const held = this.element.contains(document.activeElement);
      this.before = names.join();
      this.element.replaceChildren(
        ...names.map(state => chip(state, counts[state] ?? 0, () => this.act(state), this.toggles ? false : undefined))
      );
      if (held) this.element.querySelector<HTMLElement>(`[data-state="${focused}"]`)?.focus();
    }
    names.forEach((state, index) => {
      const each = this.element.children[index] as HTMLElement;
      write(each.querySelector('b') as Element, number(counts[state] ?? 0));
      if (this.toggles) each.setAttribute('aria-pressed', String(pressed.has(state)));
    });
  }
}

/** A bar whose parts are the shares of the states. */
export class Meter {
  readonly element = h('div', { class: 'jrm-meter', 'aria-hidden': 'true' });

  show(counts: Record<string, number>): void {
    const names = TASK_STATES.filter(state => counts[state]);
    const order = ['DONE', 'FAILED', 'CANCELED', 'RUNNING', 'STAGING_OUT', 'STAGING_IN', 'SCHEDULED'];
    names.sort((a, b) => (order.indexOf(a) + 1 || 99) - (order.indexOf(b) + 1 || 99));
    const sum = names.reduce((all, state) => all + (counts[state] ?? 0), 0);
    while (this.element.children.length > names.length) this.element.lastElementChild?.remove();
    while (this.element.children.length < names.length) this.element.append(h('i', {}));
    names.forEach((state, index) => {
      const part = this.element.children[index] as HTMLElement;
      part.className = `jrm-s-${state}`;
      part.style.width = `${(100 * (counts[state] ?? 0)) / sum}%`;
    });
    this.element.hidden = sum === 0;
  }
}
