# SPDX-License-Identifier: GPL-2.0-only
"""Persistent memory as far as a device needs it: from a namespace to its info block, altmap and data."""

from workbench.nvdimm.pfn_devs import MAPS, SUPPORTED_ALIGNS, Namespace, NdPfn, nvdimm_setup_pfn

__all__ = ["MAPS", "SUPPORTED_ALIGNS", "Namespace", "NdPfn", "nvdimm_setup_pfn"]
