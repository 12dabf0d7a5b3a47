"""How a run says that it will not begin."""


class Refused(Exception):
    """This data or model cannot be trained on; the message names the rows and the reason."""
