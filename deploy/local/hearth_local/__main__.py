"""`python -m hearth_local up|down|status|logs|backup|restore|keys`; `hearth` is the same and more."""

from hearth_local.commands import app

if __name__ == "__main__":
    app()
