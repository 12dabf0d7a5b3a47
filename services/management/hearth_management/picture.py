"""The curve of a training as an SVG picture that needs nothing but itself."""

from collections.abc import Sequence

import leather
from hearth_contracts.finetune import Metric

WIDTH, HEIGHT = 900, 500


def draw(title: str, points: Sequence[Metric]) -> str:
    """Loss and validation loss by step. Raises ValueError when there is nothing to draw."""
    chart = leather.Chart(title)
    chart.add_x_axis(name="step")
    chart.add_y_axis(name="loss")
    losses = [(point.step, point.loss) for point in points if point.loss is not None]
    measured = [(point.step, point.eval_loss) for point in points if point.eval_loss is not None]
    for name, line in (("loss", losses), ("eval_loss", measured)):
        if line:
            chart.add_line(line, name=name)
    return str(chart.to_svg(width=WIDTH, height=HEIGHT))
