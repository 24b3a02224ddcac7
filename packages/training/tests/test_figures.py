import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from spinmark_training.figures import training_curves


def texts(figure: Figure) -> list[list[str]]:
    FigureCanvasAgg(figure).draw()
    return [[text.get_text() for text in axes.texts] for axes in figure.axes]


def test_each_measurement_is_drawn_where_it_was_made() -> None:
    metrics = pd.DataFrame(
        {
            "step": [1, 5, 10],
            "loss": [5.0, 4.0, 3.0],
            "loss_ssl": [4.0, 3.0, 2.0],
            "chance": [4.8, 4.8, 4.7],
            "loss_clip": [2.0, 1.9, 1.8],
            "chance_clip": [4.1, 4.1, 4.1],
            "r2_XRKL": [np.nan, 0.1, 0.2],
            "r2_WOMKP": [np.nan, np.nan, 0.3],
            "rankme": [np.nan, 7.0, 9.0],
        }
    )
    figure = training_curves(metrics)
    assert texts(figure) == [[], [], []]
    loss, probes, rank = figure.axes
    drawn = {line.get_label(): line for line in loss.lines}
    assert drawn["two views of a joint"].get_ydata().tolist() == [4, 3, 2]
    assert drawn["guessing: two views of a joint"].get_ydata().tolist() == [4.8, 4.8, 4.7]
    assert "guessing: scan and table row" in drawn
    named = {line.get_label(): line for line in probes.lines}
    assert named["XRKL"].get_xdata().tolist() == [5, 10]
    assert named["WOMKP"].get_ydata().tolist() == [0.3]
    assert rank.lines[0].get_ydata().tolist() == [7, 9]
    assert rank.get_ylim()[0] == 0


def test_every_loss_between_image_and_table_is_drawn() -> None:
    metrics = pd.DataFrame(
        {
            "step": [1, 2],
            "loss_vid": [0.5, -0.1],
            "loss_ssl": [4.0, 3.0],
            "loss_near_tables": [3.0, 2.5],
            "chance_near_tables": [3.2, 3.2],
            "loss_crd": [np.nan, np.nan],
        }
    )
    lines = training_curves(metrics).axes[0].lines
    assert [line.get_label() for line in lines] == [
        "two views of a joint",
        "near tables",
        "guessing: near tables",
        "vid",
    ]
    assert len({line.get_color() for line in lines}) == 3


def test_an_untrained_run_has_one_point() -> None:
    row = {"step": [0], "epoch": [0], "rankme": [12.0], "r2_XRKL": [0.05]}
    figure = training_curves(pd.DataFrame(row))
    assert texts(figure) == [["not measured"], [], []]
    line = figure.axes[2].lines[0]
    assert line.get_xdata().tolist() == [0]
    assert line.get_marker() == "o"


@pytest.mark.parametrize(
    "metrics", [pd.DataFrame(), pd.DataFrame({"step": [1], "epoch": [0]})], ids=["empty", "bare"]
)
def test_nothing_measured_is_said_and_no_error(metrics: pd.DataFrame) -> None:
    assert texts(training_curves(metrics)) == [["not measured"]] * 3


def test_a_bare_loss_is_drawn() -> None:
    figure = training_curves(pd.DataFrame({"step": [1, 2], "loss": [2.0, 1.0]}))
    assert figure.axes[0].lines[0].get_ydata().tolist() == [2, 1]


def test_classes_and_the_wait_for_data_get_panels_where_they_were_measured() -> None:
    metrics = pd.DataFrame(
        {
            "step": [1, 5, 10],
            "rankme": [np.nan, 7.0, 9.0],
            "lidar": [np.nan, 3.0, 4.0],
            "knn_SITE": [np.nan, 0.5, 0.6],
            "knn_SITE_chance": [np.nan, 0.3, 0.3],
            "knn_r2_XRKL": [np.nan, 0.1, 0.2],
            "idle_fraction": [0.5, 0.02, 0.01],
        }
    )
    figure = training_curves(metrics)
    assert texts(figure) == [["not measured"], ["not measured"], [], [], []]
    _, _, rank, classes, wait = figure.axes
    assert [line.get_label() for line in rank.lines] == ["RankMe", "LiDAR"]
    # A coefficient of determination is no accuracy.
    assert [line.get_ydata().tolist() for line in classes.lines] == [[0.5, 0.6], [0.3, 0.3]]
    assert wait.lines[0].get_ydata().tolist() == [0.5, 0.02, 0.01]
    assert figure.get_size_inches().tolist() == [11, 6.8]
