# SPDX-License-Identifier: GPL-2.0-only
"""A figure with controls: it follows them, says what is refused, and stands still where no kernel runs."""

import plotly.graph_objects as go
import pytest

from workbench.errors import WorkbenchError
from workbench.view.choices import PLOTLY, Choices
from workbench.view.export import describe

WIDGET = "application/vnd.jupyter.widget-view+json"


def drawing(kernel, page=0):
    if page == 3:
        raise WorkbenchError("page 3 is <not> there. Choose another.")
    return describe(go.Figure(layout_title_text=f"{kernel} {page}"), caption=f"caption {kernel}", alt=f"alt {page}")


def shown(choices):
    (output,) = choices.figure.outputs
    return output["data"][PLOTLY]["layout"]["title"]["text"]


def test_it_begins_with_the_first_values_and_follows_the_controls():
    choices = Choices(drawing, kernel=["5.17", "6.1"], page=range(3))
    assert choices.chosen == {"kernel": "5.17", "page": 0} and shown(choices) == "5.17 0"
    choices.controls["kernel"].value = "6.1"
    choices.controls["page"].value = 2
    assert shown(choices) == "6.1 2"
    assert 'role="status"' in choices.said.value and "caption 6.1" in choices.said.value


def test_given_first_values_come_first():
    choices = Choices(drawing, {"page": 2}, kernel={"the series": "5.17", "later": "6.1"}, page=range(4))
    assert shown(choices) == "5.17 2"
    assert [label for label, _ in choices.controls["kernel"].options] == ["the series", "later"]


def test_a_refusal_is_said_in_place_of_the_figure():
    choices = Choices(drawing, kernel=["5.17"], page=range(4))
    choices.controls["page"].value = 3
    assert choices.figure.outputs == () and "&lt;not&gt;" in choices.said.value
    choices.controls["page"].value = 1
    assert shown(choices) == "5.17 1" and "not" not in choices.said.value


def test_without_a_kernel_the_figure_stands_in_its_place():
    bundle = Choices(drawing, kernel=["5.17"], page=range(4))._repr_mimebundle_()
    assert WIDGET in bundle
    assert bundle[PLOTLY]["layout"]["meta"] == {"caption": "caption 5.17", "alt": "alt 0"}
    assert bundle[PLOTLY]["config"]["showSendToCloud"] is False
    assert "text/html" not in bundle and bundle["text/plain"] == "alt 0"


def test_nothing_to_choose_is_refused():
    for choices in ({}, {"kernel": []}):
        with pytest.raises(WorkbenchError, match="at least one choice"):
            Choices(drawing, **choices)
