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
    for (const place of drawn) Plotly.relayout(place, change(onPaper));
  }

  const config = { displayModeBar: false, responsive: true, scrollZoom: false };
  const all = [...document.querySelectorAll("[data-figure]")].map((place) => {
    const figure = figures[place.dataset.figure];
    if (window.innerWidth < 600 && figure.layout.legend) figure.layout.legend.font = { size: 11 };
    return Plotly.newPlot(place, figure.data, figure.layout, config).then(() => {
      drawn.push(place);
      new ResizeObserver(() => Plotly.Plots.resize(place)).observe(place.parentElement);
      return Plotly.relayout(place, change(false));
    });
  });
  Promise.all(all).then(() => { document.documentElement.dataset.drawn = String(drawn.length); });
  dark.addEventListener("change", () => recolour(false));
  window.addEventListener("beforeprint", () => {
    recolour(true);
    for (const place of drawn) Plotly.Plots.resize(place);
  });
  window.addEventListener("afterprint", () => recolour(false));
})();
