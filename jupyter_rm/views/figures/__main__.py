"""Print the figures of a theme, one line of JSON each, for a server that would rather not load Bokeh itself.

Arguments: the theme, and the views in the order in which they are wanted. Read next: :mod:`jupyter_rm.server.drawn`.
"""

from __future__ import annotations

import json
import sys

from . import template

if __name__ == "__main__":
    theme, *views = sys.argv[1:]
    for view in views:
        sys.stdout.write(json.dumps(template(view, theme)) + "\n")
        sys.stdout.flush()
