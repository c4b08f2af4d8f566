"""Says which packages of others the interpreter that runs this has itself: one line of JSON.

Constant text, run as ``python -I -c THIS NAME=MODULE ...``; only what can really be imported counts.
"""

import importlib
import importlib.metadata
import json
import os
import sys

found = {}
for word in sys.argv[1:]:
    name, _, module = word.partition("=")
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        continue
    try:
        where = os.path.dirname(os.path.dirname(importlib.import_module(module).__file__ or ""))
        found[name] = [version, where, ""]
    except Exception as error:  # whatever a damaged package does
        found[name] = [version, "", f"{type(error).__name__}: {error}"]
print("\njrm-system:" + json.dumps(found))
