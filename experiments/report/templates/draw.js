"use strict";
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const drawn = [];

  function colours(onPaper) {
    const night = dark.matches && !onPaper;
    return night ? { ink: "#c3cbd9", grid: "#2c333f", label: "#232833" } : { ink: "#3c4658", grid: "#e3e7ee", label: "#ffffff" };
  }

  function change(onPaper) {
    const c = colours(onPaper);
    return {
      "font.color": c.ink, "font.family": "system-ui, sans-serif",
      "xaxis.gridcolor": c.grid, "yaxis.gridcolor": c.grid, "xaxis.linecolor": c.grid, "yaxis.linecolor": c.grid,
      "hoverlabel.bgcolor": c.label, "hoverlabel.font.color": c.ink,
    };
  }

  function recolour(onPaper) {
    for (const element of drawn) Plotly.relayout(element, change(onPaper));
  }

  const config = { displayModeBar: false, responsive: true, scrollZoom: false };
  const all = [...document.querySelectorAll("[data-figure]")].map((element) => {
    const figure = figures[element.dataset.figure];
    if (window.innerWidth < 600 && figure.layout.legend) figure.layout.legend.font = { size: 11 };
    return Plotly.newPlot(element, figure.data, figure.layout, config).then(() => {
      drawn.push(element);
      new ResizeObserver(() => Plotly.Plots.resize(element)).observe(element.parentElement);
      return Plotly.relayout(element, change(false));
    });
  });
  Promise.all(all).then(() => { document.documentElement.dataset.drawn = String(drawn.length); });
  dark.addEventListener("change", () => recolour(false));
  window.addEventListener("beforeprint", () => {
    recolour(true);
    for (const element of drawn) Plotly.Plots.resize(element);
  });
  window.addEventListener("afterprint", () => recolour(false));
})();
