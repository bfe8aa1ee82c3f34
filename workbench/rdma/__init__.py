# SPDX-License-Identifier: GPL-2.0-only
"""drivers/infiniband/core: user memory registered with a network adapter."""
