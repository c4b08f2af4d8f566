// Build everything the browser gets: check and compile the TypeScript, bundle it once for JupyterLab and Notebook 7
// (jupyter_rm/labextension) and once as one file for everybody else (jupyter_rm/notebook/static/view.js).
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { buildSync } from 'esbuild';

const here = join(dirname(fileURLToPath(import.meta.url)), '..');
const modules = join(here, 'node_modules');
const node = (...words) => {
  const done = spawnSync(process.execPath, words, { cwd: here, stdio: 'inherit' });
  if (done.status !== 0) process.exit(done.status ?? 1);
};
const read = (...path) => JSON.parse(readFileSync(join(...path), 'utf8'));

rmSync(join(here, 'lib'), { recursive: true, force: true });
node(join(modules, 'typescript/bin/tsc'));

buildSync({
  entryPoints: [join(here, 'lib/core/index.js')],
  outfile: join(here, '../jupyter_rm/notebook/static/view.js'),
  bundle: true,
  format: 'esm',
  target: 'es2022',
  minify: true,
  legalComments: 'none',
  banner: { js: '// Made from labextension/src/core by labextension/scripts/build.mjs; do not edit.' }
});

// JupyterLab brings these packages along. The builder would ask for the newest release of each; ours work with any
// release that package.json names, so older Labs need not complain.
const core = read(modules, '@jupyterlab/core-meta/core.package.json');
const ours = read(here, 'package.json').dependencies;
for (const part of ['dependencies', 'resolutions']) {
  for (const name of Object.keys(core[part] ?? {})) {
    if (ours[name]) core[part][name] = ours[name];
  }
}
mkdirSync(join(here, 'lib/.core'), { recursive: true });
writeFileSync(join(here, 'lib/.core/package.json'), JSON.stringify(core));
node(join(modules, '@jupyterlab/builder/lib/build-labextension.js'), '--core-path', join(here, 'lib/.core'), '.');

// What lets pip and JupyterLab say where the extension came from.
writeFileSync(
  join(here, '../jupyter_rm/labextension/install.json'),
  JSON.stringify({
    packageManager: 'python',
    packageName: 'jupyter_rm',
    uninstallInstructions: 'Use your Python package manager (pip, conda) to uninstall the package jupyter_rm'
  })
);
