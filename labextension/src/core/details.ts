// Everything about one task beside the table: why it is as it is, what to do, its story and the ends of its output.
// Output and names are shown as text, whatever they hold.

import { allow, button, fill, h, write } from './dom';
import { later, notice, stateOf, trouble } from './parts';
import { FINAL, bytes, moment, number, span } from './texts';
import type { Stage } from './view';

const AGAIN_MS = 2000;

interface Output {
  path: string | null;
  bytes: number;
  text: string;
  cut: boolean;
  binary?: boolean;
}

export class Details {
  readonly element: HTMLElement;
  private readonly told = h('div', {});
  private readonly next = h('div', { class: 'jrm-next' });
  private readonly facts = h('dl', {});
  private readonly title = h('span', {});
  private readonly cancel: HTMLButtonElement;
  private readonly retry: HTMLButtonElement;
  private readonly streams: { title: HTMLElement; text: HTMLElement }[];
  private readonly story = h('ol', { class: 'jrm-story' });
  private timer: ReturnType<typeof setTimeout> | undefined;
  private seen = '';
  private asked: AbortController | null = null;
  uid = '';

  constructor(
    private readonly stage: Stage,
    private readonly act: (what: 'cancel' | 'retry', uids: string[]) => Promise<void>,
    close: () => void
  ) {
    const { trans } = stage;
    this.cancel = button(trans.__('Cancel'), () => void this.act('cancel', [this.uid]).then(() => this.load()));
    this.retry = button(trans.__('Retry'), () => void this.act('retry', [this.uid]).then(() => this.load()));
    this.streams = ['stdout', 'stderr'].map(name => ({
      title: h('h4', {}, name),
      text: h('pre', { class: 'jrm-out', tabindex: 0, 'aria-label': trans.__('The end of %1', name) })
    }));
    this.element = h(
      'aside',
      {
        ...{ class: 'jrm-drawer', 'aria-label': trans.__('About the chosen task') },
        onkeydown: (event: KeyboardEvent) => {
          if (event.key === 'Escape') close();
        }
      },
      h('h3', {}, this.title, button('✕', close, { class: 'jrm-plain', label: trans.__('Close'), title: trans.__('Close') })),
      this.told,
      h('div', { class: 'jrm-actions' }, this.cancel, this.retry),
      this.next,
      this.facts,
      ...this.streams.flatMap(each => [each.title, each.text]),
      h('h4', {}, trans.__('Story')),
      this.story
    );
    this.element.hidden = true;
  }

  /** Show a task; empty: none. */
  show(uid: string): void {
    if (uid === this.uid) return;
    this.uid = uid;
    this.element.hidden = !uid;
    clearTimeout(this.timer);
    this.asked?.abort();
    if (!uid) return;
    write(this.title, uid);
    fill(this.told, h('div', { class: 'jrm-faint', role: 'status' }, this.stage.trans.__('Asking the server about it')));
    fill(this.facts);
    fill(this.story);
    this.next.hidden = true;
    this.element.scrollTop = 0;
    for (const each of this.streams) each.text.hidden = each.title.hidden = true;
    void this.load();
  }

  /** The table shows this row of the task: look again when it is another one. */
  hint(row: Record<string, any> | undefined): void {
    if (!row || row['uid'] !== this.uid) return;
    const now = `${row['state']} ${row['attempt']}`;
    if (now !== this.seen) this.soon();
    this.seen = now;
  }

  private readonly soon = later(() => void this.load(), 150);

  async load(): Promise<void> {
    const { stage, uid } = this;
    clearTimeout(this.timer);
    if (!uid) return;
    this.asked?.abort();
    const asked = (this.asked = new AbortController());
    try {
      const path = `sessions/${encodeURIComponent(stage.session)}/tasks/${encodeURIComponent(uid)}`;
      const task = await stage.server.ask(path, 'GET', undefined, asked.signal);
      if (asked.signal.aborted || uid !== this.uid) return;
      fill(this.told);
      this.draw(task);
      if (!FINAL.has(task.state)) this.plan();
    } catch (error) {
      if (asked.signal.aborted || (error as Error).name === 'AbortError') return;
      fill(this.told, notice(trouble(error), stage.trans, () => void this.load()));
      this.plan();
    }
  }

  /** What runs writes more: look again while somebody can see it. */
  private plan(): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      if (document.hidden || this.element.offsetParent === null) this.plan();
      else void this.load();
    }, AGAIN_MS);
  }

  private draw(task: Record<string, any>): void {
    const { trans } = this.stage;
    this.seen = `${task['state']} ${task['attempt']}`;
    const over = FINAL.has(task['state']);
    const { server } = this.stage;
    allow(this.cancel, over ? trans.__('It has ended already') : server.why('write', 'tasks', trans), trans.__('Cancel this task'));
    const failed = task['state'] === 'FAILED' || task['state'] === 'CANCELED';
    const why = failed ? server.why('execute', 'tasks', trans) : over ? trans.__('It ended with success') : trans.__('It has not ended yet');
    allow(this.retry, why, trans.__('Submit it again, as a new task'));
    const next = String(task['next_step'] || task['explain'] || '');
    this.next.hidden = !next;
    write(this.next, task['next_step'] ? trans.__('Next: %1', task['next_step']) : next);
    const both = task['started'] && task['ended'];
    const facts: [string, Node | string][] = [
      [trans.__('state'), stateOf(task['state'])],
      [trans.__('reason'), String(task['reason'] ?? '')],
      [trans.__('cause'), String(task['cause'] ?? '')],
      [trans.__('exit code'), task['exit_code'] === null ? '' : String(task['exit_code'])],
      [trans.__('command'), String(task['command'] ?? '')],
      ...Object.entries(task['parameters'] ?? {}).map(([name, value]): [string, string] => [name, String(value)]),
      [trans.__('asks for'), String(task['request'] ?? '')],
      [trans.__('attempt'), number(task['attempt'] ?? 0)],
      [trans.__('pilot, node'), [task['pilot'], task['node']].filter(Boolean).join(', ')],
      [trans.__('endpoint'), String(task['endpoint'] ?? '')],
      [trans.__('started'), moment(task['started'])],
      [trans.__('ended'), moment(task['ended']) + (both ? ` (${span(task['ended'] - task['started'])})` : '')],
      [trans.__('sandbox'), String(task['sandbox'] ?? '')]
    ];
    fill(this.facts);
    for (const [name, value] of facts) {
      if (value !== '') this.facts.append(h('dt', {}, name), h('dd', {}, value));
    }
    this.stream(0, 'stdout', task['stdout']);
    this.stream(1, 'stderr', task['stderr']);
    // The first line is the heading of the others.
    const told = (task['story'] as string[]) ?? [];
    const lines = told.length > 1 ? told.slice(1) : told;
    if (lines.length !== this.story.childElementCount || this.story.lastElementChild?.textContent !== lines.at(-1)) {
      fill(this.story, ...lines.map(line => h('li', {}, line)));
    }
  }

  private stream(place: number, name: string, output: Output): void {
    const { trans } = this.stage;
    const here = this.streams[place];
    if (!here || !output) return;
    const held = output.bytes > 0;
    here.title.hidden = here.text.hidden = !held;
    if (!held) return;
    const size = output.cut ? trans.__('%1: the end of %2', name, bytes(output.bytes)) : `${name}: ${bytes(output.bytes)}`;
    write(here.title, size);
    here.title.title = output.path ?? '';
    const bottom = here.text.scrollTop + here.text.clientHeight >= here.text.scrollHeight - 4;
    write(
      here.text,
      output.binary ? trans.__('This is binary data. All of it is in %1', output.path ?? '') : output.text
    );
    if (bottom) here.text.scrollTop = here.text.scrollHeight;
  }

  dispose(): void {
    clearTimeout(this.timer);
    this.asked?.abort();
  }
}
