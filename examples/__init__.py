"""Examples of noob-cloud: run them from the project's root folder, so that `examples` imports."""

import warnings

# Upstream looks for a folder of the desktop session, which servers do not have.
warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR is not set")
