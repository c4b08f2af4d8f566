// Icons; they take the colour of the text around them in every theme.

import { LabIcon } from '@jupyterlab/ui-components';

const svg = (inside: string): string =>
  `<svg xmlns="http://www.w3.org/2000/svg" width="16" viewBox="0 0 24 24"><g class="jp-icon3" fill="#616161">${inside}</g></svg>`;

/** A rack whose slots are partly in use. */
export const mainIcon = new LabIcon({
  name: 'jupyter_rm:main',
  svgstr: svg(
    '<path d="M4 3h16a1 1 0 0 1 1 1v16a1 1 0 0 1-1 1H4a1 1 0 0 1-1-1V4a1 1 0 0 1 1-1zm1 2v3h14V5zm0 5v4h14v-4zm0 6v3h14v-3z"/>' +
      '<path d="M6 6h5v1H6zM6 11h9v2H6zM6 17h3v1H6z"/><circle cx="17" cy="6.5" r="1"/><circle cx="17" cy="17.5" r="1"/>'
  )
});

const shapes: Record<string, string> = {
  tasks: '<path d="M3 5h4v3H3zM9 5h12v3H9zM3 10.5h4v3H3zM9 10.5h12v3H9zM3 16h4v3H3zM9 16h8v3H9z"/>',
  nodes:
    '<path d="M3 3h5v5H3zM9.500 3h5v5h-5zM16 3h5v5h-5zM3 9.500h5v5H3zM16 9.500h5v5h-5zM3 16h5v5H3zM9.500 16h5v5h-5z"/>' +
    '<path d="M10 10h4v4h-4z" opacity=".5"/>',
  queue: '<path d="M3 4h18v3H3zM3 9h13v3H3zM3 14h9v3H3zM3 19h5v2H3z"/>',
  timeline: '<path d="M3 4h8v3H3zM7 9h10v3H7zM5 14h7v3H5zM13 14h8v3h-8zM10 19h9v2h-9z"/>',
  usage: '<path d="M3 20V4h2v14h16v2z"/><path d="M6 17v-5l4-4 4 3 6-6v12z" opacity=".75"/>',
  logs: '<path d="M5 2h14v20H5zm2 2v16h10V4z"/><path d="M8.500 7h7v1.500h-7zM8.500 10.500h7V12h-7zM8.500 14h5v1.500h-5z"/>'
};

/** Icons of views. */
export const viewIcons: Record<string, LabIcon> = Object.fromEntries(
  Object.entries(shapes).map(([name, inside]) => [
    name,
    new LabIcon({ name: `jupyter_rm:${name}`, svgstr: svg(inside) })
  ])
);
