# SPDX-License-Identifier: GPL-2.0-only
"""What the lanes of :mod:`workbench.mm.page_lanes` are called and drawn as, in the order that they are drawn in.

Hue belongs to roles: the lanes of every other layer are told apart by place and name.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from workbench.abi import Abi, Role
from workbench.abi.constants import GUP_PIN_COUNTING_BIAS
from workbench.mm import page_lanes
from workbench.mm.page_lanes import ALTMAP, MISSING, lane_keys
from workbench.view import palette

_ROLE_ORDER = (
    Role.HEAD,
    Role.FIRST_TAIL,
    Role.SECOND_TAIL,
    Role.TAIL,
    Role.ZONE_DEVICE,
    Role.BASE,
    Role.BUDDY,
    Role.UNINITIALISED,
)


@dataclass(frozen=True, slots=True)
class Lane:
    """One line of a layer: a key, what it is called, and the key of :data:`palette.ROLES` that it is drawn as."""

    key: str
    label: str
    role: str = ""


@dataclass(frozen=True, slots=True)
class Layer:
    """A way to look at struct pages.

    Attributes
    ----------
    counted : page_lanes.Layer
        What is counted.
    label : str
        For people.
    lanes : tuple of Lane
        Last the one of pages that have no struct page.
    order : int64[len(lanes)]
        Where each lane stands among the lanes that are counted.
    """

    counted: page_lanes.Layer
    label: str
    lanes: tuple[Lane, ...]
    order: np.ndarray


_NO_PAGE = Lane(MISSING, "no struct page", palette.UNPOPULATED)
_REFCOUNT = (
    Lane("0", "refcount 0"),
    Lane("1", "refcount 1"),
    Lane("some", f"refcount 2–{GUP_PIN_COUNTING_BIAS - 1:,}"),
    Lane("many", f"refcount ≥ {GUP_PIN_COUNTING_BIAS:,}"),
    Lane("negative", "refcount < 0"),
)
_PINCOUNT = (
    Lane("zero", "pin count 0"),
    Lane("pinned", "pin count ≥ 1"),
    Lane("bias", f"own count ≥ {GUP_PIN_COUNTING_BIAS:,}"),
    Lane("none", "keeps no pin count"),
)
_MAPPING = (
    Lane("null", "mapping NULL"),
    Lane("tail", "TAIL_MAPPING"),
    Lane("list", "list poison"),
    Lane("set", "a mapping"),
    Lane("counts", "other members"),
)
_POISON = (Lane("hwpoison", "PG_hwpoison"), Lane("well", "not poisoned"))


def word_layers(abi: Abi) -> tuple[Layer, ...]:
    """The layers that are read from the words of struct pages."""
    roles = tuple(Lane(str(role), palette.ROLES[role].label, str(role)) for role in _ROLE_ORDER)
    in_altmap = Lane(ALTMAP, palette.ROLES[palette.ALTMAP].label, palette.ALTMAP)
    flags = lane_keys(abi, page_lanes.Layer.flags)[:-2]
    named = {
        page_lanes.Layer.roles: ("roles", (*roles, in_altmap)),
        page_lanes.Layer.refcount: ("refcount", _REFCOUNT),
        page_lanes.Layer.pincount: ("pin count", _PINCOUNT),
        page_lanes.Layer.flags: (
            "page flags",
            (*(Lane(name, f"PG_{name}") for name in flags), Lane("other", "another flag")),
        ),
        page_lanes.Layer.mapping: ("mapping", _MAPPING),
        page_lanes.Layer.poison: ("poison", _POISON),
    }
    return tuple(_layer(abi, counted, label, (*lanes, _NO_PAGE)) for counted, (label, lanes) in named.items())


def _layer(abi: Abi, counted: page_lanes.Layer, label: str, lanes: tuple[Lane, ...]) -> Layer:
    keys = lane_keys(abi, counted)
    return Layer(counted, label, lanes, np.array([keys.index(lane.key) for lane in lanes]))
