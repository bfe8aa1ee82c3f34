# SPDX-License-Identifier: GPL-2.0-only
"""The cover letter's table, what the cost model makes of it, and the RFC's RDMA rounds."""

from __future__ import annotations

from dataclasses import replace

import plotly.graph_objects as go

from workbench.lab import published, seed_timing
from workbench.lab.checkout import Checkout
from workbench.lab.cost import MODEL, seed_fit
from workbench.lab.registration import published_rounds
from workbench.lab.seed_table import seed_table
from workbench.view.cost_model import SEED_PX, residual_figure, rounds_figure, seed_figure, shares_figure
from workbench.view.figures import paper_figure
from workbench.view.provenance import Inputs, Series

WIDTH_PX = 900

_LETTER = "cover letter of version 7, 20211202204422.26777-1-joao.m.martins@oracle.com"
_RFC = "cover letter of the RFC, 8 December 2020, as quoted"
_MODEL = f"workbench.lab.cost: {', '.join(MODEL)}, fitted to the letter's twelve times"


def _inputs(checkout: Checkout, *series: Series) -> Inputs:
    return Inputs(series=list(series), parameters={"prices": list(MODEL)}, files=[checkout.root / published.FILE])


@paper_figure(
    id="seed-table",
    title="Pinning and unpinning device-dax memory, before and with the series",
    caption=(
        "The cover letter's table (diamonds, published), the cost model fitted to it (crosses, modelled), and the same "
        "calls by the engine on the machine named above (circles, measured; bars from the least to the greatest "
        "repetition): time of all calls that pin (get) or unpin (put) the memory, struct pages in DRAM or in the "
        "device itself (altmap). Another processor and another memory: compare ratios, not heights. Rows with an "
        "altmap have no measured time, since the engine's struct pages lie in DRAM. The letter prints no get for "
        "DRAM; the model says why: the locked operations and the lines read stay as many, and lines written cost next "
        "to nothing there. Measured, get gains nothing either: with compound pages the three locked operations of each "
        "page fall on the one line of the head, each waiting for the one before, and the tail is read as well; before "
        "the series they fall on the page's own line and overlap with those of the next page. About 1 s is printed to "
        "the second."
    ),
    alt=(
        "Dot plot of eight rows on a logarithmic axis of time. DRAM, 16,384 MiB: put falls from 71 to 22 ms; get, "
        "which the letter does not print, is modelled at 87 ms before and after. DRAM, 129,022 MiB: put falls from "
        "513 to 188 ms. Measured in DRAM: put falls to less than half, get stays within a tenth. Altmap, never "
        "measured, 16,384 MiB: get falls from 524 to 127 ms, put from 525 to 71 ms. Altmap, 127,004 MiB: get from 4.1 "
        "to 1 s, put from 4.12 s to 563 ms. Each cross lies within 8 percent of its diamond."
    ),
    width_px=WIDTH_PX,
    height_px=SEED_PX,
    data=(published.FILE, seed_timing.COMMITTED),
)
def seed_table_figure(checkout: Checkout) -> tuple[go.Figure, Inputs]:
    """Published, modelled and measured times of the letter's runs."""
    run = seed_timing.committed(checkout)
    times, where = seed_table(seed_fit(), seed_timing.times(run)), seed_timing.where(run)
    kinds = (("published", _LETTER), ("modelled", _MODEL), ("measured", seed_timing.COMMITTED))
    inputs = _inputs(checkout, *(Series(kind, kind, source, "ms") for kind, source in kinds))
    files = [*inputs.files, checkout.root / seed_timing.COMMITTED]
    return seed_figure(times, WIDTH_PX, where), replace(inputs, files=files)


@paper_figure(
    id="pin-cost-shares",
    title="Why pinning gains only where struct pages lie in slow memory",
    caption=(
        "What it costs to pin (get) and unpin (put) one page of 4 KiB, as the cost model divides it; diamonds are "
        "the published costs at either size. With the series a compound page of 2 MiB has two lines written "
        "instead of 512: in the device each of them is dear, in DRAM the model has them free. Unpinning also "
        "saves the locked operations, everywhere."
    ),
    alt=(
        "Eight stacked horizontal bars in nanoseconds a page. DRAM, get: 21 before and 21 after, mostly locked "
        "operations. DRAM, put: 16 before, 5.5 after, lines read only. Altmap, get: 128 before, of which 97 are "
        "lines written back, 32 after. Altmap, put: 123 before, 17 after."
    ),
    width_px=WIDTH_PX,
    height_px=486,
    data=(published.FILE,),
)
def shares(checkout: Checkout) -> tuple[go.Figure, Inputs]:
    """Nanoseconds a page by price."""
    return shares_figure(seed_fit(), WIDTH_PX), _inputs(
        checkout, Series("published", "published", _LETTER, "ns"), Series("modelled", "modelled", _MODEL, "ns")
    )


@paper_figure(
    id="cost-residuals",
    title="How far the cost model is off",
    caption=(
        "Modelled over published, for each of the twelve times: as fitted, and as predicted by a fit that did not "
        "see that time. Grey bars: what rounds to the printed number; that of about 1 s reaches beyond the axis. "
        "The two sizes of the letter disagree with each other by up to 4.4 % either way, which no price a page "
        "can mend."
    ),
    alt=(
        "Dot plot of twelve rows, residuals in percent from minus 14 to 14 with a band of 8 percent. All fitted "
        "residuals lie inside the band; the greatest is minus 7.5 percent, of 71 ms for put in DRAM. Two of the "
        "predicted ones leave it, minus 11 and plus 11 percent, both of put of 16,384 MiB in DRAM."
    ),
    width_px=WIDTH_PX,
    height_px=540,
    data=(published.FILE,),
)
def residuals(checkout: Checkout) -> tuple[go.Figure, Inputs]:
    """Residuals of the fit, and of the fits without each time."""
    return residual_figure(seed_fit(), WIDTH_PX), _inputs(
        checkout, Series("rounding", "published", _LETTER, "%"), Series("residuals", "modelled", _MODEL, "%")
    )


@paper_figure(
    id="rdma-rounds",
    title="Registering device-dax memory for RDMA, as the RFC published it",
    caption=(
        "Rounds of registering and deregistering a memory region, a second; published with the RFC of December "
        "2020, which also held the work on unpinning and on slow get_user_pages, so that hugetlbfs gains as well. "
        "It is not a measurement of version 7. The size of the region is not known here."
    ),
    alt=(
        "Four horizontal bars, rounds a second. device-dax: 31.6 before and 60.9 after. hugetlbfs: 93.0 before "
        "and 214.4 after."
    ),
    width_px=WIDTH_PX,
    height_px=344,
    data=(published.FILE,),
)
def rdma_rounds(checkout: Checkout) -> tuple[go.Figure, Inputs]:
    """Four bars."""
    inputs = Inputs(
        series=[Series("rounds a second", "published", _RFC, "1/s")], files=[checkout.root / published.FILE]
    )
    return rounds_figure(published_rounds(), WIDTH_PX), inputs
