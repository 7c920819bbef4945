// Draws every chart from the data beside it, in the colours of the reader's scheme; nothing is fetched.
(() => {
  "use strict";
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const root = document.documentElement;
  const ink = (name) => getComputedStyle(root).getPropertyValue(name).trim();

  // Set while printing: widths in CSS pixels that fit an A4 or Letter page, half of it and whole.
  let paper = false;
  const PAPER_WIDTH = { half: 290, whole: 640 };

  function layout(figure, element) {
    const axis = {
      gridcolor: ink("--line"), zerolinecolor: ink("--line"), linecolor: ink("--line"),
      automargin: true, fixedrange: true,
    };
    const narrow = paper || window.innerWidth < 600;
    const size = paper ? 9 : narrow ? 12 : 13;
    const titled = (own) => (own && own.title ? { title: { ...own.title, font: { size }, standoff: 8 } } : {});
    return {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: ink("--sans"), size, color: ink("--ink") },
      margin: { l: 8, r: 12, t: 18, b: 8 },
      height: paper ? 0.75 * figure.height : figure.height,
      width: paper ? PAPER_WIDTH[element.closest(".whole") ? "whole" : "half"] : undefined,
      legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0, xanchor: "left" },
      hoverlabel: { bgcolor: ink("--card"), bordercolor: ink("--line"), font: { color: ink("--ink") } },
      ...figure.layout,
      xaxis: { ...axis, ...figure.layout.xaxis, ...titled(figure.layout.xaxis) },
      yaxis: { ...axis, ...figure.layout.yaxis, ...titled(figure.layout.yaxis) },
    };
  }

  function traces(figure) {
    const whisker = { color: ink("--ink") };
    return figure.data.map((trace) => ({
      ...trace,
      ...(trace.error_x && { error_x: { ...trace.error_x, ...whisker } }),
      ...(trace.error_y && { error_y: { ...trace.error_y, ...whisker } }),
    }));
  }

  function draw() {
    for (const [id, figure] of Object.entries(figures)) {
      const element = document.getElementById(`chart-${id}`);
      if (element) {
        Plotly.react(element, traces(figure), layout(figure, element), { displayModeBar: false, responsive: true });
      }
    }
  }

  draw();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);

  // Paper is light and cannot be clicked: the page is drawn in light colours with its notes unfolded.
  // Queries print as the reader left them: twenty unfolded ones would fill thirty sheets.
  let unfolded = [];
  addEventListener("beforeprint", () => {
    paper = true;
    root.dataset.scheme = "light";
    unfolded = [...document.querySelectorAll("details.fold:not([open])")];
    unfolded.forEach((details) => { details.open = true; });
    draw();
  });
  addEventListener("afterprint", () => {
    paper = false;
    delete root.dataset.scheme;
    unfolded.forEach((details) => { details.open = false; });
    draw();
  });
})();
