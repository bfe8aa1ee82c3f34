# SPDX-License-Identifier: GPL-2.0-only
"""The paper figures, one module a subject; ``workbench.view.figures`` tells how to write one."""
