# SPDX-License-Identifier: GPL-2.0-only
"""A region of persistent memory and the namespaces it is cut into.

* Without labels a region is one namespace that spans it.  With labels it holds as many as fit, each one
  contiguous range; a new one goes into the first hole that takes all of it.
* Sizes are multiples of the region's align, 16 MiB by default: holes end at such a multiple too, so the
  last 14 MiB of a region that ends 2 MiB short of one are nobody's.
* ``namespace0.3`` is the fourth of region 0; in device-dax mode its device is ``dax0.3``.
* A namespace in device-dax mode has an info block (:mod:`workbench.nvdimm.pfn_devs`); disabled and
  enabled again it is laid out as before.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import dataclass

from workbench import text
from workbench.abi.constants import PAGE_SIZE
from workbench.errors import WorkbenchError
from workbench.nvdimm.pfn_devs import MAPS, SUPPORTED_ALIGNS, Namespace, NdPfn, nvdimm_setup_pfn

MEMREMAP_COMPAT_ALIGN_MAX = 16 << 20
"""Bytes: the align that suits every architecture (include/linux/memremap.h)."""
MODES = ("raw", "devdax", "fsdax")


@dataclass(eq=False)
class NdNamespace:
    """A namespace that exists.

    Attributes
    ----------
    region_id, id : int
    start, size : int
        Bytes, metadata included.
    mode : str
        ``"raw"``, ``"devdax"`` or ``"fsdax"``.
    nd_pfn : NdPfn or None
        Its info block; None in raw mode.
    enabled : bool
    """

    region_id: int
    id: int
    start: int
    size: int
    mode: str = "raw"
    nd_pfn: NdPfn | None = None
    enabled: bool = True

    @property
    def name(self) -> str:
        """``namespace0.1``."""
        return f"namespace{self.region_id}.{self.id}"

    @property
    def end(self) -> int:
        """The byte after the last."""
        return self.start + self.size

    def __repr__(self) -> str:
        state = "" if self.enabled else ", disabled"
        return f"{self.name}: {self.mode}, {text.size(self.size, exact=True)} at {self.start:#x}{state}"


class NdRegion:
    """struct nd_region of one interleave set.

    Parameters
    ----------
    id : int
    start, size : int
        Bytes.
    labels : bool
        Whether namespace labels were written.  Without, the region comes up as one raw namespace.
    """

    def __init__(self, id: int, start: int, size: int, labels: bool = False) -> None:
        self.id, self.start, self.size = id, start, size
        self.labels = labels
        self._namespaces: dict[int, NdNamespace] = {}
        if not labels:
            self._namespaces[0] = NdNamespace(id, 0, start, size)

    @property
    def name(self) -> str:
        """``region0``."""
        return f"region{self.id}"

    @property
    def end(self) -> int:
        """The byte after the last."""
        return self.start + self.size

    @property
    def align(self) -> int:
        """Bytes that sizes are multiples of.

        Kernel
        ------
        drivers/nvdimm/region_devs.c, default_align(), for one mapping.
        """
        return PAGE_SIZE if self.size < MEMREMAP_COMPAT_ALIGN_MAX else MEMREMAP_COMPAT_ALIGN_MAX

    @property
    def namespaces(self) -> list[NdNamespace]:
        """The namespaces by number."""
        return [self._namespaces[n] for n in sorted(self._namespaces)]

    def holes(self) -> Iterator[tuple[int, int]]:
        """Start and end (exclusive) of each free range, cut to multiples of the region's align.

        Kernel
        ------
        drivers/nvdimm/namespace_devs.c, space_valid().
        """
        begin = self.start
        taken = sorted((namespace.start, namespace.end) for namespace in self.namespaces)
        for first, last in [*taken, (self.end, self.end)]:
            low, high = -(-begin // self.align) * self.align, first // self.align * self.align
            if low < high:
                yield low, high
            begin = last

    @property
    def available_size(self) -> int:
        """Bytes free, as the attribute of this name says."""
        return sum(high - low for low, high in self.holes())

    @property
    def max_available_extent(self) -> int:
        """Bytes of the largest hole: the largest namespace that can be made."""
        return max((high - low for low, high in self.holes()), default=0)

    def namespace(self, name: str) -> NdNamespace:
        """The namespace called ``name``.

        Raises
        ------
        WorkbenchError
            ENODEV: there is none.
        """
        for namespace in self.namespaces:
            if namespace.name == name:
                return namespace
        raise WorkbenchError(
            f"{self.name} has no {name}. It has {', '.join(n.name for n in self.namespaces) or 'none'}.", errno.ENODEV
        )

    def init_labels(self) -> None:
        """Write empty labels: all of the region becomes free, and may be cut.

        Raises
        ------
        WorkbenchError
            EBUSY: a namespace is in use.  Nothing changes.
        """
        for namespace in self.namespaces:
            if namespace.mode != "raw":
                raise WorkbenchError(
                    f"{namespace!r} is in use; labels are written to an idle region. Destroy it first.", errno.EBUSY
                )
        self.labels = True
        self._namespaces.clear()

    def create_namespace(
        self, size: int | None = None, align: int = 2 << 20, map: str = "dev", mode: str = "devdax"
    ) -> NdNamespace:
        """Make a namespace in the first hole that takes it, and its info block.

        Parameters
        ----------
        size : int, optional
            Bytes; all of the largest hole, or of a region without labels, unless told.
        align : int
            Bytes: 4096, 2 MiB or 1 GiB.
        map : str
            ``"mem"`` or ``"dev"``.
        mode : str
            ``"devdax"``, ``"fsdax"`` or ``"raw"``; align and map mean nothing to a raw one.

        Raises
        ------
        WorkbenchError
            EINVAL: mode, map or align unknown, or a size that is no multiple of the align or of the
            region's.  ENOSPC: no hole takes it.  ENXIO: its metadata leave no data.  Nothing changes.

        Kernel
        ------
        drivers/nvdimm/namespace_devs.c, size_store(); user space checks the align before and takes the
        label back where the info block is refused.
        """
        self._check(align, map, mode)
        if self.labels:
            size = self._size(size, align)
            start = next((low for low, high in self.holes() if high - low >= size), None)
            if start is None:
                raise WorkbenchError(
                    f"{self.name} has no free {text.size(size, exact=True)} in one piece: the largest hole has "
                    f"{text.size(self.max_available_extent, exact=True)}, all of them "
                    f"{text.size(self.available_size, exact=True)}. Destroy a namespace or ask for less.",
                    errno.ENOSPC,
                )
            number = next(n for n in range(len(self._namespaces) + 1) if n not in self._namespaces)
            made = NdNamespace(self.id, number, start, size)
        else:
            made = self._namespaces[0]
            if made.mode != "raw":
                raise WorkbenchError(f"{self.name} has no labels and one namespace, {made!r}.", errno.ENOSPC)
            if size not in (None, self.size):
                raise WorkbenchError(
                    f"{self.name} has no labels: its namespace has {text.size(self.size, exact=True)}. Write labels.",
                    errno.EINVAL,
                )
        self._lay_out(made, align, map, mode)
        self._namespaces[made.id] = made
        return made

    def reconfigure_namespace(
        self, name: str, align: int = 2 << 20, map: str = "dev", mode: str = "devdax"
    ) -> NdNamespace:
        """Give a disabled namespace another mode, align or map; its place and size stay, its data do not.

        Raises
        ------
        WorkbenchError
            EBUSY: it is enabled.  EINVAL, ENXIO as :meth:`create_namespace`.  Nothing changes.
        """
        namespace = self._disabled(name, "reconfigured")
        self._check(align, map, mode)
        self._lay_out(namespace, align, map, mode)
        namespace.enabled = True
        return namespace

    def disable_namespace(self, name: str) -> NdNamespace:
        """Release the namespace's driver; its device must be gone.  Disabling twice is nothing."""
        namespace = self.namespace(name)
        namespace.enabled = False
        return namespace

    def enable_namespace(self, name: str) -> NdNamespace:
        """Find the info block again: the namespace comes back as it was."""
        namespace = self.namespace(name)
        namespace.enabled = True
        return namespace

    def destroy_namespace(self, name: str) -> None:
        """Take the label, or without labels the info block, away.

        Raises
        ------
        WorkbenchError
            EBUSY: it is enabled.  ENODEV: there is none.  Nothing changes.
        """
        namespace = self._disabled(name, "destroyed")
        if self.labels:
            del self._namespaces[namespace.id]
        else:
            self._namespaces[0] = NdNamespace(self.id, 0, self.start, self.size)

    def _disabled(self, name: str, what: str) -> NdNamespace:
        namespace = self.namespace(name)
        if namespace.enabled:
            raise WorkbenchError(f"{name} is active and cannot be {what}. Disable it first.", errno.EBUSY)
        return namespace

    def _check(self, align: int, map: str, mode: str) -> None:
        if mode not in MODES:
            raise WorkbenchError(f"a namespace's mode is one of {', '.join(MODES)}; got {mode!r}.", errno.EINVAL)
        if map not in MAPS or align not in SUPPORTED_ALIGNS:
            raise WorkbenchError(
                f"map is mem or dev and align 4 KiB, 2 MiB or 1 GiB; got {map!r} and {align} bytes.", errno.EINVAL
            )

    def _size(self, size: int | None, align: int) -> int:
        """The size asked for, or that of the largest hole."""
        if size is None:
            size = self.max_available_extent // align * align
            if not size:
                raise WorkbenchError(f"{self.name} has no room for a namespace of align {align}.", errno.ENOSPC)
        unit = max(align, self.align)
        if size < 1 or size % align or size % self.align:
            raise WorkbenchError(
                f"a namespace in {self.name} is a multiple of {text.size(unit, exact=True)} large (its align "
                f"{text.size(align, exact=True)}, the region's {text.size(self.align, exact=True)}); got {size} bytes. "
                f"Ask for {text.size(max(-(-size // unit), 1) * unit, exact=True)}.",
                errno.EINVAL,
            )
        return size

    @staticmethod
    def _lay_out(namespace: NdNamespace, align: int, map: str, mode: str) -> None:
        """Write the info block; a refusal changes nothing."""
        if mode == "raw":
            namespace.mode, namespace.nd_pfn = mode, None
            return
        nd_pfn = nvdimm_setup_pfn(Namespace(namespace.start, namespace.size, align, map))
        namespace.mode, namespace.nd_pfn = mode, nd_pfn

    def __repr__(self) -> str:
        return (
            f"{self.name}: {text.size(self.size, exact=True)} at {self.start:#x}, "
            f"{len(self._namespaces)} namespaces, {text.size(self.available_size)} free"
        )
