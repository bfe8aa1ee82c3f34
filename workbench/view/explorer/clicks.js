/* SPDX-License-Identifier: GPL-2.0-only */
/* Tells the kernel which mark of a chart beside it was clicked.
 *
 * The chart is plotly's own picture of an output and is drawn anew at every choice; a mark must be pointed at before
 * it can be clicked, so a chart is listened to from the first time that something points at it.
 */
function initialize({ model }) {
  const gone = new AbortController(), heard = new WeakSet();
  const point = ({ target }) => {
    const chart = target.closest?.(`.${model.get("beside")} .js-plotly-plot`);
    if (!chart || heard.has(chart)) return;
    heard.add(chart);
    chart.on("plotly_click", ({ points }) => {
      const mark = points.find((one) => one.customdata);
      if (mark) model.send({ clicked: mark.customdata });
    });
  };
  document.addEventListener("pointerover", point, { capture: true, signal: gone.signal });
  return () => gone.abort();
}

export default { initialize, render: () => {} };
