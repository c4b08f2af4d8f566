// Elements and texts. Everything shown is text: nothing a task or person wrote ever becomes HTML.

export type Child = Node | string | number | null | undefined | false;
type Attributes = Record<string, unknown>;

/** Make an element: `on*` are listeners, `class` and other names are attributes; null and false leave one out. */
export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) made.addEventListener(name.slice(2), value as EventListener);
    else if (name === 'value') (made as unknown as { value: unknown }).value = value;
    else made.setAttribute(name, value === true ? '' : String(value));
  }
  append(made, children);
  return made;
}

export function append(to: Element, children: readonly Child[]): void {
  for (const child of children) {
    if (child === null || child === undefined || child === false) continue;
    to.append(child instanceof Node ? child : String(child));
  }
}

/** Put other children into an element, unless what is there looks the same (so that focus and selection stay). */
export function fill(element: Element, ...children: Child[]): void {
  element.replaceChildren();
  append(element, children);
}

/** Write a text, only when it is another one: screen readers read what changes. */
export function write(element: Element, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

export interface ButtonOptions {
  title?: string;
  /** Why it cannot be pressed; empty: it can. */
  why?: string;
  class?: string;
  label?: string;
  pressed?: boolean;
  expanded?: boolean;
}

/** Make a button. One that cannot be pressed stays reachable and says why. */
export function button(text: Child, act: () => void, options: ButtonOptions = {}): HTMLButtonElement {
  const made = h('button', {
    type: 'button',
    class: `jrm-button ${options.class ?? ''}`.trim(),
    title: options.title,
    'aria-label': options.label,
    'aria-pressed': options.pressed === undefined ? null : String(options.pressed),
    'aria-expanded': options.expanded === undefined ? null : String(options.expanded),
    onclick: () => {
      if (made.getAttribute('aria-disabled') !== 'true') act();
    }
  });
  append(made, [text]);
  allow(made, options.why ?? '', options.title);
  return made;
}

/** Let a button be pressed, or say why it cannot. */
export function allow(which: HTMLElement, why: string, title = ''): void {
  if (why) {
    which.setAttribute('aria-disabled', 'true');
    which.title = why;
  } else {
    which.removeAttribute('aria-disabled');
    if (title) which.title = title;
    else which.removeAttribute('title');
  }
}

/** Texts of the page in its reader's language; the default is English. */
export interface Trans {
  __(text: string, ...values: unknown[]): string;
  _n(one: string, many: string, count: number, ...values: unknown[]): string;
}

function insert(text: string, values: unknown[]): string {
  return text.replace(/%(\d)/g, (_, place: string) => String(values[Number(place) - 1] ?? ''));
}

export const ENGLISH: Trans = {
  __: (text, ...values) => insert(text, values),
  _n: (one, many, count, ...values) => insert(count === 1 ? one : many, [count, ...values])
};
