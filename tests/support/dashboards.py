"""The code that makes the dashboards; it lies beside them, in no package."""

import importlib.util
import sys
from pathlib import Path

_PATH = Path(__file__).resolve().parents[2] / "deploy" / "grafana" / "build.py"
_SPEC = importlib.util.spec_from_file_location("grafana_build", _PATH)
assert _SPEC is not None
assert _SPEC.loader is not None
BUILD = importlib.util.module_from_spec(_SPEC)
sys.modules["grafana_build"] = BUILD
_SPEC.loader.exec_module(BUILD)
