// What logins of a session's pilots want to know: a host key, a password, a one-time code. The answer goes to the server
// and stays nowhere on the page.

import { button, fill, h, type Trans } from '../core/dom';
import { notice, trouble } from '../core/parts';
import type { Model } from './model';

const AGAIN_MS = 1500;

interface Question {
  number: number;
  pilot: string;
  kind: 'password' | 'otp' | 'passphrase' | 'host_key';
  title: string;
  text: string;
  fingerprint: string;
  key_type: string;
  secret: boolean;
}

export class Questions {
  readonly element: HTMLElement;
  private readonly shown = new Map<number, HTMLElement>();
  private timer: ReturnType<typeof setTimeout> | undefined;
  private wanted = false;
  private over = false;

  constructor(
    private readonly session: string,
    private readonly model: Model,
    private readonly trans: Trans
  ) {
    this.element = h('section', { class: 'jrm-questions', 'aria-label': trans.__('Questions of logins'), 'aria-live': 'polite' });
    this.element.hidden = true;
  }

  /** Say whether a login may be on its way: only then anything is asked for. */
  want(wanted: boolean): void {
    if (wanted === this.wanted) return;
    this.wanted = wanted;
    if (wanted) void this.look();
    else this.draw([]);
  }

  dispose(): void {
    this.over = true;
    clearTimeout(this.timer);
  }

  private async look(): Promise<void> {
    clearTimeout(this.timer);
    if (!document.hidden && this.element.isConnected) {
      try {
        const told = await this.model.server.ask(this.model.path(this.session, '/questions'));
        if (!this.over) this.draw(this.wanted ? (told.questions as Question[]) : []);
      } catch {
        // The panel says by itself that the server is away.
      }
    }
    if (this.wanted && !this.over) this.timer = setTimeout(() => void this.look(), AGAIN_MS);
  }

  private draw(questions: Question[]): void {
    const numbers = new Set(questions.map(each => each.number));
    for (const [number, element] of this.shown) {
      if (numbers.has(number)) continue;
      element.remove();
      this.shown.delete(number);
    }
    for (const each of questions) {
      if (this.shown.has(each.number)) continue;
      const made = this.form(each);
      this.shown.set(each.number, made);
      this.element.append(made);
    }
    this.element.hidden = this.shown.size === 0;
  }

  private form(question: Question): HTMLElement {
    const { trans } = this;
    const id = `jrm-question-${question.number}-${Math.random().toString(36).slice(2, 8)}`;
    const key = question.kind === 'host_key';
    const said = h('div', {});
    const input = h('input', {
      ...{ id, type: question.secret ? 'password' : 'text', autocomplete: 'off', spellcheck: 'false' },
      'aria-describedby': `${id}-text`
    });
    const send = async (text: string, cancel: boolean): Promise<void> => {
      input.value = '';
      try {
        await this.model.server.ask(this.model.path(this.session, `/questions/${question.number}`), 'POST', { text, cancel });
        fill(said);
      } catch (error) {
        fill(said, notice(trouble(error), trans));
      }
      await this.look();
    };
    const yes = key ? trans.__('It is the right one') : trans.__('Answer');
    return h(
      'form',
      {
        class: 'jrm-form',
        onsubmit: (event: Event) => {
          event.preventDefault();
          void send(key ? 'yes' : input.value, false);
        }
      },
      h('h3', {}, trans.__('Pilot %1 asks', question.pilot)),
      h('label', { for: key ? null : id }, question.title),
      h('div', { class: 'jrm-reason', id: `${id}-text` }, question.text.trim()),
      question.fingerprint &&
        h('div', {}, trans.__('Compare with what the site publishes:'), h('pre', { class: 'jrm-out' }, `${question.key_type} ${question.fingerprint}`)),
      key ? null : input,
      said,
      h(
        'div',
        { class: 'jrm-actions' },
        button(yes, () => void send(key ? 'yes' : input.value, false), { class: 'jrm-primary' }),
        button(trans.__('Do not log in'), () => void send('', true), { title: trans.__('The login ends, and the pilot with it') })
      )
    );
  }
}
