# SPDX-License-Identifier: GPL-2.0-only
"""Persistent memory as far as a device needs it: regions, namespaces, and from these to info block, altmap and data."""

from workbench.nvdimm.pfn_devs import MAPS, SUPPORTED_ALIGNS, Namespace, NdPfn, nvdimm_setup_pfn
from workbench.nvdimm.region import NdNamespace, NdRegion

__all__ = ["MAPS", "SUPPORTED_ALIGNS", "Namespace", "NdNamespace", "NdPfn", "NdRegion", "nvdimm_setup_pfn"]
