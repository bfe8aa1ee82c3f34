# SPDX-License-Identifier: GPL-2.0-only
"""Experiments and the main job: each experiment ends in a Dataset, notebooks become pages."""
