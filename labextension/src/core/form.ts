// The form that asks for a pilot: where, how much, how long. Its fields are what the site's description says; each
// change is checked by the server, which also tells the very command that would be run.

import { allow, append, button, fill, h, write, type Trans } from './dom';
import { later, notice, trouble } from './parts';
import type { Server } from './server';

interface Field {
  name: string;
  label: string;
  help: string;
  type: string;
  unit: string;
  value: unknown;
  default: unknown;
  choices: string[];
  required: boolean;
  read_only: boolean;
  shown: boolean;
  hidden: boolean;
  error: string;
  min: number | null;
  max: number | null;
  max_length: number | null;
}

interface Form {
  title: string;
  fields: Field[];
  errors: Record<string, string>;
  ready: boolean;
  command: string;
  stdin: string;
  script: string;
  note: string;
  found: { can: boolean; at: number | null; text: string; failure: string };
  resolved: Record<string, string>;
  left_out: string[];
  pilot: Record<string, unknown> | null;
}

interface Row {
  element: HTMLElement;
  input: HTMLInputElement | HTMLSelectElement;
  hint: HTMLElement;
  error: HTMLElement;
}

// What nearly everybody asks for stands first, the rest behind "More".
const FIRST = new Set(['name', 'nodes', 'cores_per_node', 'walltime', 'queue', 'project']);

/** Return a key that nobody else has; pages without TLS have no `randomUUID`. */
function fresh(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), byte => byte.toString(16).padStart(2, '0')).join('');
}

export class PilotForm {
  readonly element: HTMLFormElement;
  private readonly id = `jrm-form-${Math.random().toString(36).slice(2, 8)}`;
  private readonly site: HTMLInputElement;
  private readonly fields = h('div', { class: 'jrm-form' });
  private readonly more = h('details', {}, h('summary', {}, ''));
  private readonly rest = h('div', { class: 'jrm-form' });
  private readonly preview = h('details', {});
  private readonly command = h('pre', { class: 'jrm-out', tabindex: 0 });
  private readonly config = h('pre', { class: 'jrm-out', tabindex: 0 });
  private readonly script = h('pre', { class: 'jrm-out', tabindex: 0 });
  private readonly found = h('div', { class: 'jrm-line' });
  private readonly foundText = h('span', { class: 'jrm-faint', role: 'status' });
  private readonly refresh: HTMLButtonElement;
  private readonly choose = h('details', {});
  private readonly boxes = h('div', { class: 'jrm-boxes', role: 'group' });
  private boxesOf = '';
  private choices = '';
  private looking: string | null = null;
  private readonly said = h('div', {});
  private readonly submit: HTMLButtonElement;
  private readonly rows = new Map<string, Row>();
  private values: Record<string, unknown> = {};
  private form: Form | null = null;
  private asked = 0;
  private key = fresh();

  constructor(
    private readonly server: Server,
    private readonly session: string,
    private readonly trans: Trans,
    private readonly done: (uid: string | null) => void
  ) {
    const list = `${this.id}-sites`;
    const reload = later(() => void this.load(true), 400);
    this.site = h('input', {
      ...{ type: 'text', value: 'local', list, id: `${this.id}-site`, autocomplete: 'off', spellcheck: 'false' },
      placeholder: 'slurm+ssh://me@login.example.org',
      oninput: () => {
        this.stale();
        reload();
      }
    });
    // Enter in any field submits only where there is a button of this kind; it is sent where the form hears of it.
    this.submit = button(trans.__('Start pilot'), () => undefined, { class: 'jrm-primary' });
    this.submit.type = 'submit';
    append(this.more.firstElementChild as Element, [trans.__('More')]);
    this.more.append(this.rest);
    const told = (summary: string, pre: HTMLElement): HTMLElement => {
      pre.setAttribute('aria-label', summary);
      return h('details', {}, h('summary', {}, summary), pre);
    };
    this.command.setAttribute('aria-label', trans.__('What will be run'));
    this.preview.append(
      h('summary', {}, trans.__('What will be run')),
      this.command,
      told(trans.__('Every value that is asked for'), this.config),
      told(trans.__('The batch script, the same for every job'), this.script)
    );
    this.refresh = button(trans.__('Look for its queues'), () => void this.discover(), {
      title: trans.__('Log in there and ask which queues there are; a login that asks something is not answered here')
    });
    this.found.append(this.foundText, this.refresh);
    this.found.hidden = true;
    this.boxes.setAttribute('aria-label', trans.__('Fields that are shown'));
    this.choose.append(h('summary', {}, trans.__('Fields that are shown')), this.boxes);
    this.choose.addEventListener('toggle', () => this.form && this.hideable(this.form));
    this.element = h(
      'form',
      {
        ...{ class: 'jrm-form', 'aria-label': trans.__('Start a pilot for session %1', session) },
        onsubmit: (event: Event) => {
          event.preventDefault();
          void this.send();
        },
        onkeydown: (event: KeyboardEvent) => {
          if (event.key === 'Escape') this.done(null);
        }
      },
      h('div', { class: 'jrm-row2' }, h('label', { for: this.site.id }, trans.__('Site')), this.site),
      h('datalist', { id: list }),
      this.found,
      this.fields,
      this.more,
      this.choose,
      this.preview,
      this.said,
      h('div', { class: 'jrm-actions' }, this.submit, button(trans.__('Not now'), () => this.done(null)))
    );
    void this.sites();
    void server.learn().then(() => this.load(true));
  }

  focus(): void {
    this.site.focus();
  }

  private async sites(): Promise<void> {
    try {
      const told = await this.server.ask('sites');
      const list = this.element.querySelector('datalist') as HTMLElement;
      const options = [
        ...told.sites.map((each: any) => h('option', { value: each.name }, each.title)),
        ...told.systems.map((each: any) => h('option', { value: `${each.name}+ssh://` }, each.title))
      ];
      fill(list, ...options);
    } catch {
      // Only suggestions: a name can be typed all the same.
    }
  }

  /** Something was typed: what was checked before is not what would be sent. */
  private stale(): void {
    this.asked++;
    this.form = null;
    allow(this.submit, this.trans.__('It is being checked'));
  }

  /** Look at the site for its queues. */
  private async discover(): Promise<void> {
    this.stale();
    const site = (this.looking = this.site.value);
    allow(this.refresh, this.trans.__('It is being asked'));
    write(this.foundText, this.trans.__('looking'));
    try {
      await this.load(true);
    } finally {
      if (this.looking === site) this.looking = null;
      allow(this.refresh, '');
    }
  }

  /** Keep which fields this person wants to see; the server remembers it. */
  private async hide(): Promise<void> {
    const boxes = [...this.boxes.querySelectorAll('input')];
    const hidden = boxes.filter(each => !each.checked).map(each => each.dataset['field']);
    for (const name of hidden) delete this.values[name ?? ''];
    this.stale();
    try {
      await this.server.ask(`sites/${encodeURIComponent(this.site.value.trim() || 'local')}/fields`, 'POST', { hidden });
    } catch (error) {
      return fill(this.said, notice(trouble(error), this.trans));
    }
    await this.load();
  }

  /** Ask the server for the form with what is filled in. */
  private async load(anew = false): Promise<void> {
    const asked = ++this.asked;
    // What was typed meanwhile must not be answered before, without what is being looked for.
    const refresh = this.looking === this.site.value;
    try {
      const site = encodeURIComponent(this.site.value.trim() || 'local');
      const body = refresh ? { values: this.values, refresh } : { values: this.values };
      const form = (await this.server.ask(`sites/${site}/form`, 'POST', body)) as Form;
      if (asked !== this.asked) return;
      this.form = form;
      fill(this.said);
      this.draw(anew);
    } catch (error) {
      if (asked !== this.asked) return;
      this.form = null;
      allow(this.submit, this.trans.__('The form cannot be checked now'));
      fill(this.said, notice(trouble(error), this.trans, () => void this.load(anew)));
    }
  }

  private draw(anew: boolean): void {
    const { form, trans } = this;
    if (!form) return;
    const names = form.fields.map(each => each.name);
    const choices = JSON.stringify(form.fields.map(each => each.choices));
    if (anew || names.join() !== [...this.rows.keys()].join() || choices !== this.choices) {
      this.choices = choices;
      this.rows.clear();
      fill(this.fields);
      fill(this.rest);
      for (const field of form.fields) {
        const row = this.row(field);
        this.rows.set(field.name, row);
        (FIRST.has(field.name) ? this.fields : this.rest).append(row.element);
      }
    }
    for (const field of form.fields) {
      const row = this.rows.get(field.name);
      if (!row) continue;
      row.element.hidden = !field.shown || field.hidden;
      write(row.hint, field.name === 'queue' && field.choices.length ? field.help : '');
      write(row.error, field.error);
      row.input.setAttribute('aria-invalid', String(Boolean(field.error)));
    }
    this.more.hidden = ![...this.rest.children].some(each => !(each as HTMLElement).hidden);
    const whole = form.errors[''];
    if (whole) fill(this.said, notice({ code: '', message: whole, hint: '', retry: false }, trans));
    const text = [form.command, form.stdin].filter(Boolean).join('\n\n');
    write(this.command, text || form.note);
    const lines = Object.entries(form.resolved).map(([name, value]) => `${name} = ${value}`);
    if (lines.length) lines.push(trans.__('not given: %1', form.left_out.join(', ')));
    write(this.config, lines.join('\n'));
    write(this.script, form.script);
    (this.config.parentElement as HTMLElement).hidden = !lines.length;
    (this.script.parentElement as HTMLElement).hidden = !form.script;
    this.found.hidden = !form.found.can;
    write(this.foundText, form.found.failure || form.found.text);
    this.foundText.className = form.found.failure ? 'jrm-bad' : 'jrm-faint';
    this.hideable(form);
    const first = Object.values(form.errors)[0];
    const why = this.server.why('write', 'pilots', trans) || (form.ready ? '' : trans.__('Not yet: %1', first ?? ''));
    allow(this.submit, why, trans.__('Ask %1 for it', form.title));
  }

  private hideable(form: Form): void {
    if (!this.choose.open) return; // made when somebody wants to see it
    const key = form.fields.map(each => `${each.name} ${each.hidden}`).join();
    if (key === this.boxesOf) return;
    this.boxesOf = key;
    const focused = (document.activeElement as HTMLElement | null)?.dataset['field'];
    const held = this.boxes.contains(document.activeElement);
    const rows = form.fields.filter(each => !each.required);
    fill(
      this.boxes,
      ...rows.map(each => {
        const box = h('input', { type: 'checkbox', 'data-field': each.name, 'aria-label': this.trans.__('Show %1', each.label), onchange: () => void this.hide() });
        box.checked = !each.hidden;
        return h('label', { title: each.help }, box, ` ${each.label}`);
      })
    );
    if (held && focused) this.boxes.querySelector<HTMLElement>(`[data-field="${focused}"]`)?.focus();
  }

  private row(field: Field): Row {
    const id = `${this.id}-${field.name}`;
    const help = [field.help, field.unit && `(${field.unit})`].filter(Boolean).join(' ');
    const hint = field.default === null || field.default === undefined ? '' : String(field.default);
    const told = this.values[field.name] ?? field.value;
    const change = (): void => {
      const value = input instanceof HTMLInputElement && input.type === 'checkbox' ? input.checked : input.value.trim();
      if (value === '') delete this.values[field.name];
      else this.values[field.name] = value;
      // Another form is another wish.
      this.key = fresh();
      void this.load();
    };
    const soon = later(change, 300);
    const common = {
      ...{ id, 'aria-describedby': `${id}-hint ${id}-error`, 'aria-required': field.required ? 'true' : null },
      disabled: field.read_only,
      title: help
    };
    let input: HTMLInputElement | HTMLSelectElement;
    if (field.type === 'choice' || field.choices.length) {
      input = h('select', { ...common, onchange: change });
      input.append(h('option', { value: '' }, hint ? `${hint}` : '–'));
      for (const each of field.choices) if (each !== hint) input.append(h('option', { value: each }, each));
      input.value = told === null || told === undefined ? '' : String(told);
    } else if (field.type === 'bool' || field.type === 'flag') {
      input = h('input', { ...common, type: 'checkbox', onchange: change });
      input.checked = told === true || (told === undefined && field.default === true);
    } else {
      const size = { maxlength: field.max_length, inputmode: field.type === 'int' ? 'numeric' : null };
      const value = told === null || told === undefined ? '' : String(told);
      input = h('input', { ...common, ...size, type: 'text', placeholder: hint, value, oninput: () => (this.stale(), soon()) });
    }
    const error = h('div', { class: 'jrm-bad', id: `${id}-error`, 'aria-live': 'polite' });
    const label = h('label', { for: id, title: help }, field.label, field.required ? ' *' : '');
    if (field.unit) label.append(h('span', { class: 'jrm-faint' }, ` (${field.unit})`));
    const limits = h('div', { class: 'jrm-faint', id: `${id}-hint` });
    const element = h('div', { class: 'jrm-row2' }, label, input, limits, error);
    return { element, input, hint: limits, error };
  }

  private async send(): Promise<void> {
    const { form, trans } = this;
    if (!form?.pilot || this.submit.getAttribute('aria-disabled') === 'true') return;
    allow(this.submit, trans.__('It is being asked for'));
    try {
      const { site, ...fields } = form.pilot;
      const body = { site: site ?? this.site.value, ...fields, key: this.key };
      const pilot = await this.server.ask(`sessions/${encodeURIComponent(this.session)}/pilots`, 'POST', body);
      this.done(pilot.uid);
    } catch (error) {
      allow(this.submit, '');
      fill(this.said, notice(trouble(error), trans));
    }
  }
}
