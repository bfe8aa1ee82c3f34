# SPDX-License-Identifier: GPL-2.0-only
"""drivers/dax: regions of memory, the devices they are cut into, and the drivers that bind them."""
