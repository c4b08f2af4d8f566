// The look: one style sheet, made of the page's own colours (JupyterLab's variables) with others where there are none.

import { HUES, MARKS, ink } from './texts';

const states = (theme: 'light' | 'dark', before: string): string =>
  Object.entries(MARKS)
    .map(([name, mark]) => `${before}.jrm-s-${name}{background:${mark[theme]};color:${ink(mark[theme])}}`)
    .join('\n');

const hues = HUES.map((hue, place) => `.jrm-h-c${place}{background:${hue}}`).join('\n');

const SHEET = `
.jrm {
  --jrm-text: var(--jp-ui-font-color1, #1f2328); --jrm-faint: var(--jp-ui-font-color2, #57606a);
  --jrm-paper: var(--jp-layout-color1, #fff); --jrm-paper2: var(--jp-layout-color2, #f3f4f6);
  --jrm-line: var(--jp-border-color2, #d9dce1); --jrm-line1: var(--jp-border-color1, #b9bec5);
  --jrm-brand: var(--jp-brand-color1, #1565c0); --jrm-chosen: rgba(31, 120, 180, .16);
  --jrm-warn: #fff4e2; --jrm-warn-line: #b35900; --jrm-bad: #a13d00;
  color: var(--jrm-text); background: var(--jrm-paper);
  font: 13px/1.4 var(--jp-ui-font-family, system-ui, -apple-system, 'Segoe UI', sans-serif); box-sizing: border-box;
}
.jrm.jrm-dark { --jrm-text: var(--jp-ui-font-color1, #e6e8eb); --jrm-faint: var(--jp-ui-font-color2, #a8adb5);
  --jrm-paper: var(--jp-layout-color1, #1b1e23); --jrm-paper2: var(--jp-layout-color2, #2b2f36);
  --jrm-line: var(--jp-border-color2, #3d434c); --jrm-line1: var(--jp-border-color1, #5b616a);
  --jrm-brand: var(--jp-brand-color1, #64b5f6); --jrm-chosen: rgba(74, 163, 223, .28);
  --jrm-warn: #3a2a14; --jrm-warn-line: #d9a92f; --jrm-bad: #ffab6b; color-scheme: dark; }
.jrm *, .jrm *::before { box-sizing: border-box; }
.jrm [hidden] { display: none !important; }
.jrm-view { display: flex; flex-direction: column; min-height: 0; }
.jrm-view.jrm-cell { border: 1px solid var(--jrm-line); border-radius: 4px; overflow: hidden; }
.jrm-view.jrm-cell.jrm-v-tasks { height: 560px; resize: vertical; }
.jrm-view.jrm-full { height: 100%; }
.jrm-head { display: flex; align-items: center; gap: 10px; padding: 6px 10px; border-bottom: 1px solid var(--jrm-line); flex: none; flex-wrap: wrap; }
.jrm-head h2 { font-size: 13px; font-weight: 600; margin: 0; }
.jrm-head h2 + * { margin-left: auto; }
.jrm-live { color: var(--jrm-faint); font-size: 12px; }
.jrm-live::before { content: ''; display: inline-block; width: 8px; height: 8px; border-radius: 50%; margin-right: 5px; background: #2e8b57; }
.jrm-live.jrm-old::before { background: transparent; border: 2px solid var(--jrm-warn-line); }
.jrm-bar { display: flex; flex-wrap: wrap; gap: 6px 8px; align-items: center; padding: 6px 10px; border-bottom: 1px solid var(--jrm-line); flex: none; }
.jrm-bar:empty { display: none; }
.jrm-bar label, .jrm-field { display: inline-flex; gap: 5px; align-items: center; color: var(--jrm-faint); font-size: 12px; }
.jrm-grow { flex: 1; }
.jrm-body { flex: 1; min-height: 0; overflow: auto; padding: 6px 10px; position: relative; }
.jrm-v-tasks .jrm-body { display: flex; flex-direction: column; padding: 0; overflow: hidden; }
.jrm-figure { flex: none; min-height: 40px; }
.jrm-v-tasks .jrm-figure { padding: 4px 10px; border-bottom: 1px solid var(--jrm-line); min-height: 228px; }
.jrm-v-tasks .jrm-figure:empty { display: none; }
.jrm button, .jrm input, .jrm select { font: inherit; color: inherit; }
.jrm .jrm-button { background: var(--jrm-paper); border: 1px solid var(--jrm-line1); border-radius: 4px; padding: 2px 9px; min-height: 26px; cursor: pointer; }
.jrm .jrm-button:hover { background: var(--jrm-paper2); }
.jrm .jrm-button[aria-disabled=true] { color: var(--jrm-faint); cursor: not-allowed; border-style: dashed; }
.jrm .jrm-button[aria-pressed=true] { background: var(--jrm-chosen); border-color: var(--jrm-brand); }
.jrm .jrm-button.jrm-primary { border-color: var(--jrm-brand); font-weight: 600; }
.jrm .jrm-button.jrm-plain { border-color: transparent; background: transparent; padding: 2px 6px; }
.jrm .jrm-button.jrm-plain:hover { background: var(--jrm-paper2); }
.jrm button:focus-visible, .jrm input:focus-visible, .jrm select:focus-visible, .jrm [tabindex]:focus-visible, .jrm summary:focus-visible, .jrm a:focus-visible {
  outline: 2px solid var(--jp-focus-outline-color, var(--jrm-brand)); outline-offset: -1px; }
.jrm input:not([type=checkbox]):not([type=range]), .jrm select { background: var(--jrm-paper); border: 1px solid var(--jrm-line1); border-radius: 4px; padding: 2px 7px; min-height: 26px; min-width: 0; }
.jrm ::placeholder { color: var(--jrm-faint); opacity: 1; }
.jrm .jrm-chip { display: inline-flex; align-items: center; gap: 4px; border-radius: 13px; padding: 1px 9px 1px 4px; min-height: 24px; border: 1px solid var(--jrm-line); font-size: 12px; background: var(--jrm-paper); }
.jrm-chip > span { display: inline-flex; gap: 4px; align-items: center; }
.jrm-mark { display: inline-flex; align-items: center; justify-content: center; width: 16px; height: 16px; border-radius: 4px; font-size: 10px; font-weight: 700; line-height: 1; flex: none; vertical-align: -3px; }
.jrm-s-FAILED.jrm-mark { border-radius: 50%; }
.jrm-s-CANCELED.jrm-mark { border-radius: 50%; }
.jrm-s-RUNNING.jrm-mark, .jrm-s-ACTIVE.jrm-mark { border-radius: 2px 8px 8px 2px; }
.jrm-state { display: inline-flex; align-items: center; gap: 5px; white-space: nowrap; }
.jrm-faint, .jrm-age { color: var(--jrm-faint); font-size: 12px; }
.jrm-age { white-space: nowrap; font-variant-numeric: tabular-nums; }
.jrm-bad { color: var(--jrm-bad); }
.jrm-notice { background: var(--jrm-warn); border-left: 3px solid var(--jrm-warn-line); padding: 7px 10px; margin: 0; color: var(--jrm-text); overflow-wrap: anywhere; }
.jrm-notice-end { display: flex; align-items: center; justify-content: space-between; gap: 8px; margin-top: 4px; }
.jrm-notice-end:empty { display: none; }
.jrm-said { padding: 5px 10px; color: var(--jrm-text); font-size: 12px; border-bottom: 1px solid var(--jrm-line); overflow-wrap: anywhere; }
.jrm-hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
.jrm-split { flex: 1; min-height: 0; display: flex; }
.jrm-grid { flex: 1; min-width: 0; overflow: auto; position: relative; font-variant-numeric: tabular-nums; }
.jrm-grid-head, .jrm-row { display: grid; grid-template-columns: var(--jrm-columns); column-gap: 10px; padding: 0 10px; align-items: center; min-width: 640px; }
.jrm-grid-head { position: sticky; top: 0; z-index: 2; background: var(--jrm-paper2); border-bottom: 1px solid var(--jrm-line); height: 28px; }
.jrm-grid-head button { all: unset; cursor: pointer; font-weight: 600; font-size: 12px; white-space: nowrap; }
.jrm-space { position: relative; min-width: 640px; }
.jrm-row { position: absolute; left: 0; right: 0; height: 26px; border-bottom: 1px solid var(--jrm-paper2); cursor: default; }
.jrm-row > * { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.jrm-row:hover { background: var(--jrm-paper2); }
.jrm-row[aria-selected=true] { background: var(--jrm-chosen); }
.jrm-row.jrm-linked { box-shadow: inset 3px 0 0 var(--jrm-brand); }
.jrm-row .jrm-num { text-align: right; }
.jrm-none { padding: 18px 12px; color: var(--jrm-faint); }
.jrm-drawer { width: 46%; min-width: 260px; max-width: 620px; border-left: 1px solid var(--jrm-line); overflow: auto; padding: 8px 12px; }
.jrm-drawer h3 { margin: 0; font-size: 13px; display: flex; gap: 8px; align-items: center; }
.jrm-drawer h3 .jrm-button { margin-left: auto; }
.jrm-drawer h4 { margin: 12px 0 3px; font-size: 12px; }
.jrm-drawer dl { display: grid; grid-template-columns: max-content 1fr; gap: 1px 12px; margin: 6px 0; }
.jrm-drawer dt { color: var(--jrm-faint); } .jrm-drawer dd { margin: 0; overflow-wrap: anywhere; }
.jrm-out { background: var(--jrm-paper2); border-radius: 4px; margin: 2px 0; padding: 6px 8px; max-height: 220px; overflow: auto; white-space: pre-wrap; overflow-wrap: anywhere; font: 12px/1.35 var(--jp-code-font-family, ui-monospace, monospace); }
.jrm-story { margin: 2px 0; padding-left: 18px; }
.jrm-next { background: var(--jrm-paper2); border-left: 3px solid var(--jrm-brand); padding: 5px 8px; margin: 6px 0; }
.jrm-crumbs { display: flex; gap: 2px; align-items: center; flex-wrap: wrap; }
.jrm-crumbs span[aria-current] { font-weight: 600; padding: 0 6px; }
.jrm-sheet-box { overflow: auto; max-height: 420px; margin-top: 8px; }
.jrm .jrm-sheet { border-collapse: collapse; font-size: 12px; font-variant-numeric: tabular-nums; width: 100%; }
.jrm .jrm-sheet th, .jrm .jrm-sheet td { text-align: left; padding: 3px 12px 3px 0; border-bottom: 1px solid var(--jrm-line); vertical-align: baseline; font-weight: normal; }
.jrm .jrm-sheet thead th { position: sticky; top: 0; background: var(--jrm-paper); font-weight: 600; white-space: nowrap; }
.jrm .jrm-sheet-of-places thead th { white-space: normal; vertical-align: bottom; }
.jrm .jrm-sheet .jrm-button { padding: 0 4px; margin-left: -4px; min-height: 24px; }
.jrm .jrm-sheet .jrm-num { text-align: right; }
.jrm-words { display: block; min-width: 14ch; max-width: 48ch; overflow-wrap: anywhere; }
.jrm .jrm-sheet tr.jrm-own { font-weight: 600; box-shadow: inset 3px 0 0 var(--jrm-brand); }
.jrm .jrm-sheet tr.jrm-own > :first-child { padding-left: 8px; }
.jrm .jrm-sheet tr.jrm-linked { background: var(--jrm-chosen); }
.jrm-view h3 { font-size: 12px; margin: 12px 0 0; }
.jrm-dot { width: 10px; height: 10px; border-radius: 50%; flex: none; }
.jrm-panel { height: 100%; overflow: auto; display: flex; flex-direction: column; }
.jrm-panel section { padding: 8px 10px; border-bottom: 1px solid var(--jrm-line); }
.jrm-panel h3 { font-size: 11px; text-transform: uppercase; letter-spacing: .04em; margin: 0 0 5px; color: var(--jrm-faint); font-weight: 600; }
.jrm-panel-top { display: flex; gap: 6px; align-items: center; padding: 8px 10px; border-bottom: 1px solid var(--jrm-line); flex: none; }
.jrm-panel-top h2 { font-size: 13px; margin: 0; flex: 1; }
.jrm-list { list-style: none; margin: 0; padding: 0; }
.jrm-list > li { border-radius: 4px; }
.jrm .jrm-session { all: unset; box-sizing: border-box; display: block; width: 100%; padding: 4px 6px; border-radius: 4px; cursor: pointer; }
.jrm .jrm-session:hover { background: var(--jrm-paper2); }
.jrm .jrm-session[aria-current=true] { background: var(--jrm-chosen); }
.jrm-line { display: flex; gap: 6px; align-items: center; flex-wrap: wrap; }
.jrm-line b { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; max-width: 100%; }
.jrm-line .jrm-age { margin-left: auto; }
.jrm-pilot { padding: 5px 0; border-top: 1px solid var(--jrm-paper2); }
.jrm-pilot:first-child { border-top: 0; }
.jrm-reason { color: var(--jrm-faint); font-size: 12px; overflow-wrap: anywhere; }
.jrm-actions { display: flex; flex-wrap: wrap; gap: 5px; margin-top: 5px; }
.jrm-meter { display: flex; height: 8px; border-radius: 4px; overflow: hidden; background: var(--jrm-paper2); margin: 6px 0; }
.jrm-meter > i { display: block; min-width: 2px; border-radius: 0 !important; }
.jrm-form { display: grid; gap: 8px; }
.jrm-form .jrm-row2 { display: grid; gap: 2px; }
.jrm-form label { font-size: 12px; font-weight: 600; }
.jrm-form input:not([type=checkbox]), .jrm-form select { width: 100%; }
.jrm-form pre { margin: 0; }
.jrm-boxes { display: flex; flex-wrap: wrap; gap: 2px 12px; padding: 4px 0; }
.jrm-form .jrm-boxes label { font-weight: normal; }
.jrm-v-logs.jrm-cell { height: 420px; resize: vertical; }
.jrm-v-logs .jrm-body { display: flex; flex-direction: column; padding: 0; overflow: hidden; }
.jrm-log { flex: 1; min-height: 0; overflow: auto; padding: 4px 10px; font: 12px/1.5 var(--jp-code-font-family, ui-monospace, monospace); }
.jrm-log-line { display: grid; grid-template-columns: max-content 7ch 7ch 1fr; column-gap: 10px; }
.jrm-log-line:hover { background: var(--jrm-paper2); }
.jrm-log-line > * { color: var(--jrm-faint); white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
.jrm-log-line > :last-child { color: inherit; white-space: pre-wrap; overflow-wrap: anywhere; }
.jrm-log-line.jrm-log-DEBUG { color: var(--jrm-faint); }
.jrm-log-line.jrm-log-WARNING > :nth-child(3), .jrm-log-line.jrm-log-ERROR > :nth-child(3) { color: var(--jrm-bad); font-weight: 700; }
.jrm-log-line.jrm-log-ERROR { box-shadow: inset 3px 0 0 var(--jrm-bad); padding-left: 8px; margin-left: -8px; }
.jrm-log-note { flex: none; padding: 4px 10px; border-top: 1px solid var(--jrm-line); }
.jrm-questions { background: var(--jrm-warn); border-left: 3px solid var(--jrm-warn-line); }
.jrm-status { display: inline-flex; gap: 6px; align-items: center; background: transparent; font-size: inherit; }
.jrm-status .jrm-mark { width: 14px; height: 14px; }
.jrm .jrm-status-button { all: unset; cursor: pointer; display: inline-flex; gap: 8px; align-items: center; height: 100%; padding: 0 6px; }
@media (prefers-reduced-motion: no-preference) { .jrm-meter > i { transition: width .2s; } }
${states('light', '')}
${states('dark', '.jrm-dark ')}
${hues}
`;

/** Put the style sheet on the page, once. */
export function ensureStyle(): void {
  if (document.getElementById('jrm-style')) return;
  const made = document.createElement('style');
  made.id = 'jrm-style';
  made.textContent = SHEET;
  document.head.append(made);
}

export type Theme = 'light' | 'dark';

/** Return the theme of the page, as JupyterLab or VS Code tell it, or as its paper is. */
export function pageTheme(): Theme {
  const body = document.body;
  if (body.dataset['jpThemeLight']) return body.dataset['jpThemeLight'] === 'false' ? 'dark' : 'light';
  const code = body.dataset['vscodeThemeKind'];
  if (code) return code.includes('light') ? 'light' : 'dark';
  const paper = /\d+(\.\d+)?/g;
  const [r = 255, g = 255, b = 255, a = 1] = (getComputedStyle(body).backgroundColor.match(paper) ?? []).map(Number);
  return a > 0 && 0.3 * r + 0.6 * g + 0.1 * b < 100 ? 'dark' : 'light';
}

/** Be told when the page changes its theme; call what is returned to stop. */
export function watchTheme(told: (theme: Theme) => void): () => void {
  let last = pageTheme();
  const observer = new MutationObserver(() => {
    const now = pageTheme();
    if (now !== last) told((last = now));
  });
  const names = ['class', 'style', 'data-jp-theme-light', 'data-jp-theme-name', 'data-vscode-theme-kind'];
  observer.observe(document.body, { attributes: true, attributeFilter: names });
  return () => observer.disconnect();
}
