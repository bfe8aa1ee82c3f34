# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import itertools

import plotly.graph_objects as go
import plotly.io as pio
import pytest

from workbench.abi import Role
from workbench.errors import WorkbenchError
from workbench.view import palette
from workbench.view.provenance import KINDS

# The eight hues as Okabe and Ito give them (red, green, blue).
OKABE_ITO = {
    (0, 0, 0), (230, 159, 0), (86, 180, 233), (0, 158, 115),
    (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167),
}  # fmt: skip


def rgb(color: str) -> tuple[int, int, int]:
    return tuple(int(color[at : at + 2], 16) for at in (1, 3, 5))  # type: ignore[return-value]


def luminance(color: str) -> float:
    """Relative luminance of WCAG 2."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in rgb(color))]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_every_role_of_the_abi_is_drawn() -> None:
    assert {role.value for role in Role} <= set(palette.ROLES)


def test_roles_are_drawn_in_okabe_itos_hues_or_without_hue() -> None:
    for role, swatch in palette.ROLES.items():
        red, green, blue = rgb(swatch.fill)
        assert rgb(swatch.fill) in OKABE_ITO or red == green == blue, role


def test_no_two_roles_look_alike() -> None:
    looks = [(swatch.fill, swatch.pattern) for swatch in palette.ROLES.values()]
    labels = [swatch.label for swatch in palette.ROLES.values()]
    assert len(set(looks)) == len(looks) and len(set(labels)) == len(labels)


def test_light_fills_have_a_visible_outline_on_white() -> None:
    for role, swatch in palette.ROLES.items():
        assert max(contrast(swatch.fill, "#FFFFFF"), contrast(swatch.outline, "#FFFFFF")) >= 2.5, role


def test_text_is_readable_in_both_templates() -> None:
    for name in ("devmap", "devmap-dark"):
        layout = pio.templates[name].layout
        assert contrast(layout.font.color, layout.paper_bgcolor) >= 7
        assert layout.font.family.startswith("DejaVu Sans")
        assert (layout.title.x, layout.title.xanchor, layout.legend.orientation) == (0, "left", "h")
        for one, other in itertools.pairwise(layout.colorway):
            assert one != other


def test_every_provenance_has_a_shape_of_its_own() -> None:
    assert list(palette.PROVENANCE) == list(KINDS)
    assert len({mark.symbol for mark in palette.PROVENANCE.values()}) == len(KINDS)
    assert len({mark.label for mark in palette.PROVENANCE.values()}) == len(KINDS)
    for kind in KINDS:
        go.Scatter(**palette.provenance_style(kind, palette.BLUE))


def test_patterned_roles_are_drawn_with_their_pattern() -> None:
    assert go.Bar(marker=palette.role_marker(palette.ALTMAP)).marker.pattern.shape == "/"
    assert "pattern" not in palette.role_marker(Role.HEAD)


def test_heatmap_cell_k_has_the_colour_of_role_k() -> None:
    roles = [Role.HEAD, Role.FIRST_TAIL, Role.SECOND_TAIL, Role.TAIL, palette.ALTMAP]
    scale = palette.role_heatmap(roles)
    span = scale["zmax"] - scale["zmin"]
    for k, role in enumerate(roles):
        share = (k - scale["zmin"]) / span
        steps = [color for at, color in scale["colorscale"] if at <= share]
        assert steps[-1] == palette.ROLES[role].fill


@pytest.mark.parametrize(
    "ask", [palette.role_marker, lambda name: palette.role_heatmap([name]), palette.provenance_style]
)
def test_unknown_names_are_refused_with_the_known_ones(ask) -> None:
    with pytest.raises(WorkbenchError, match="write one of"):
        ask("guessed")


def test_importing_the_palette_keeps_figures_at_home_in_jupyterlab() -> None:
    config = pio.renderers["plotly_mimetype"].to_mimebundle(go.Figure().to_dict())["application/vnd.plotly.v1+json"]
    assert config["config"]["showSendToCloud"] is False and not config["config"]["plotlyServerURL"]


def test_install_sets_template_and_keeps_figures_at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    before = pio.templates.default, {name: pio.renderers[name].config for name in ("plotly_mimetype", "notebook")}
    try:
        palette.install(dark=True)
        assert pio.templates.default == "devmap-dark"
        palette.install()
        assert pio.templates.default == "devmap"
        bundle = pio.renderers["plotly_mimetype"].to_mimebundle(go.Figure().to_dict())
        config = bundle["application/vnd.plotly.v1+json"]["config"]
        assert config["showSendToCloud"] is False and not config["plotlyServerURL"]
    finally:
        pio.templates.default = before[0]
        for name, config in before[1].items():
            pio.renderers[name].config = config
