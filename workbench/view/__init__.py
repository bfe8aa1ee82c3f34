# SPDX-License-Identifier: GPL-2.0-only
"""What people look at: figures, their colours, their export and the main job."""
