// Draws the charts of a page from the tables beside them, and renews both. Without this script the
// page shows the tables, and reloads itself.
"use strict";
(() => {
  const COLOURS = ["--link", "--second", "--third", "--fourth", "--fifth", "--sixth"];
  const HEIGHT = 190; // of a plot, in CSS pixels
  const FASTEST_MS = 5_000;
  const SLOWEST_MS = 60_000;
  const charts = new Map(); // id of the figure -> its chart
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  const pad = (number) => String(number).padStart(2, "0");
  const clock = (date) => `${pad(date.getUTCHours())}:${pad(date.getUTCMinutes())}`;
  const day = (date) => `${pad(date.getUTCMonth() + 1)}-${pad(date.getUTCDate())}`;

  function short(value, digits) {
    return String(Number(value.toFixed(digits)));
  }

  // A value of an axis; the exact ones are in the table.
  function axisText(unit, value) {
    if (unit === "percent") return `${short(value * 100, 3)} %`;
    if (unit === "latency") return value < 1 ? `${short(value * 1e3, 1)} ms` : `${short(value, 2)} s`;
    for (const [size, letter] of [[1e9, " B"], [1e6, " M"], [1e3, " k"]]) {
      if (Math.abs(value) >= size) return short(value / size, 2) + letter;
    }
    return short(value, 2);
  }

  // The columns of a table, oldest first: times, values, and the words of each value.
  function read(figure) {
    const labels = [...figure.querySelectorAll("thead th")].slice(1).map((head) => head.textContent);
    const rows = [...figure.querySelectorAll("tbody tr")].reverse();
    const times = rows.map((row) => Number(row.dataset.at));
    const running = rows.map((row) => "running" in row.dataset);
    const values = labels.map((_, at) =>
      rows.map((row) => {
        const text = row.cells[at + 1].dataset.value;
        return text === "" ? null : Number(text);
      }),
    );
    const words = labels.map((_, at) => rows.map((row) => row.cells[at + 1].textContent));
    return { labels, times, running, values, words };
  }

  // Each line twice: the steps that are over, and a dashed piece to the one that is not. Of a sum
  // the unfinished step is left out, as it would look like a dive.
  function columns(figure, table) {
    const isSum = "sum" in figure.dataset;
    const data = [table.times];
    for (const line of table.values) {
      data.push(line.map((value, at) => (table.running[at] ? null : value)));
      data.push(
        line.map((value, at) => {
          const leads = table.running[at + 1] && !table.running[at];
          return !isSum && (table.running[at] || leads) ? value : null;
        }),
      );
    }
    const target = Number(figure.dataset.target);
    if (figure.dataset.target) data.push(table.times.map(() => target));
    return data;
  }

  function range(unit) {
    return (plot, low, high) => {
      if (low === null) return [0, 1];
      if (unit !== "percent") return [0, high > 0 ? high * 1.08 : 1];
      // A share is shown as closely as it varies, and never beyond 100 %.
      const room = Math.max((high - low) * 0.1, 0.0005);
      return [Math.max(0, low - room), Math.min(1, high + room)];
    };
  }

  // The time of an incident, behind the lines.
  function shade(figure, plot) {
    if (!figure.dataset.from) return;
    const { left, top, width, height } = plot.bbox;
    const place = (at) => Math.min(left + width, Math.max(left, plot.valToPos(at, "x", true)));
    const begin = place(Number(figure.dataset.from));
    plot.ctx.save();
    plot.ctx.globalAlpha = 0.14;
    plot.ctx.fillStyle = colour("--fourth");
    plot.ctx.fillRect(begin, top, Math.max(2, place(Number(figure.dataset.to)) - begin), height);
    plot.ctx.restore();
  }

  function options(figure, table) {
    const { unit } = figure.dataset;
    const step = Number(figure.dataset.step);
    const isDaily = step >= 86_400;
    const now = () => charts.get(figure.id)?.table ?? table;
    // Without a cursor the legend is about the newest step that is over.
    const lastOver = () => Math.max(0, now().running.lastIndexOf(false));
    const words = (at) => (plot, value, series, row) => now().words[at][row ?? lastOver()];
    const series = [
      {
        label: "From",
        value: (plot, at) => {
          const date = new Date((at ?? now().times[lastOver()]) * 1000);
          const seconds = step < 60 ? `:${pad(date.getUTCSeconds())}` : "";
          return isDaily ? day(date) : `${day(date)} ${clock(date)}${seconds}`;
        },
      },
    ];
    table.labels.forEach((label, at) => {
      const stroke = () => colour(COLOURS[at % COLOURS.length]);
      const points = { size: 4 };
      series.push({ label, stroke, width: 2, points, value: words(at) });
      // Not in the legend: its value is that of the line.
      series.push({ label: "", stroke, width: 2, dash: [4, 4], points: { show: false }, class: "twin" });
    });
    if (figure.dataset.target) {
      const text = figure.dataset.targetText;
      const stroke = () => colour("--edge");
      series.push({ label: "Target", stroke, width: 1, dash: [6, 4], points: { show: false }, value: () => text });
    }
    const axis = { stroke: () => colour("--muted"), grid: { stroke: () => colour("--line"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
    return {
      width: figure.querySelector(".plot").clientWidth || 320,
      height: HEIGHT,
      series,
      tzDate: (at) => uPlot.tzDate(new Date(at * 1e3), "Etc/UTC"),
      scales: { y: { range: range(unit) } },
      axes: [
        { ...axis, space: 70, size: 30, values: (plot, ticks) => ticks.map((at) => (isDaily ? day : clock)(new Date(at * 1000))) },
        { ...axis, size: 62, values: (plot, ticks) => ticks.map((value) => axisText(unit, value)) },
      ],
      hooks: { drawClear: [(plot) => shade(figure, plot)] },
      cursor: { sync: { key: "page" }, y: false, drag: { x: false, y: false } },
    };
  }

  function draw(figure) {
    const table = read(figure);
    const plot = figure.querySelector(".plot");
    charts.get(figure.id)?.chart.destroy();
    charts.delete(figure.id);
    if (!table.values.some((line) => line.some((value) => value !== null))) return;
    const entry = { table, labels: table.labels.join() };
    charts.set(figure.id, entry);
    entry.chart = new uPlot(options(figure, table), columns(figure, table), plot);
    for (const twin of plot.querySelectorAll(".u-legend .twin")) twin.hidden = true;
  }

  function drawAll() {
    document.querySelectorAll(".chart").forEach(draw);
  }

  // Puts a newer rendering of the page into it: open tables, focus and the cursor stay.
  function renew(next) {
    for (const part of document.querySelectorAll("[data-part]")) {
      const other = next.getElementById(part.id);
      if (other && other.innerHTML !== part.innerHTML) part.replaceChildren(...other.childNodes);
    }
    const figures = [...document.querySelectorAll(".chart")];
    const others = [...next.querySelectorAll(".chart")];
    if (figures.map((one) => one.id).join() !== others.map((one) => one.id).join()) {
      location.reload(); // a chart came or went, as when the first request failed
      return;
    }
    figures.forEach((figure, at) => {
      Object.assign(figure.dataset, others[at].dataset);
      figure.querySelector("table").replaceWith(others[at].querySelector("table"));
      const entry = charts.get(figure.id);
      const table = read(figure);
      if (!entry || entry.labels !== table.labels.join()) {
        draw(figure);
      } else {
        entry.table = table;
        entry.chart.setData(columns(figure, table));
      }
    });
  }

  function period() {
    const figure = document.querySelector(".chart");
    const step = figure ? Number(figure.dataset.step) : 0;
    return Math.min(SLOWEST_MS, Math.max(FASTEST_MS, step * 100));
  }

  async function tick() {
    const live = document.getElementById("live");
    if (!document.hidden) {
      try {
        const answer = await fetch(location.href, { cache: "no-store" });
        if (!answer.ok) throw new Error(String(answer.status));
        renew(new DOMParser().parseFromString(await answer.text(), "text/html"));
        live.textContent = "Live";
        live.toggleAttribute("data-live", true);
      } catch {
        live.textContent = "Not live: the server does not answer";
        live.toggleAttribute("data-live", false);
      }
    }
    setTimeout(tick, period());
  }

  let width = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth === width) return;
    width = innerWidth;
    for (const [id, { chart }] of charts) {
      chart.setSize({ width: document.getElementById(id).querySelector(".plot").clientWidth, height: HEIGHT });
    }
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  drawAll();
  setTimeout(tick, period());
})();
