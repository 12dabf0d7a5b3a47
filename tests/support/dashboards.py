"""The code that makes the dashboards; it lies beside them, in no package."""

from tests.support.modules import load

BUILD = load("deploy/grafana/build.py")
